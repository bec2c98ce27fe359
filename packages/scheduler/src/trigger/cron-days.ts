import { type FieldRange, fieldError, fieldValue, fieldValues } from './cron-field.ts';

/** The days of a month that a field selects, unsorted; 1 is the first. `weekday` is that of the first day, 0 is Sunday; `length` is 28 to 31. */
export type DaysOfMonth = (month: { readonly weekday: number; readonly length: number }) => readonly number[];

const dayOfMonth: FieldRange = { name: 'day of the month', least: 1, most: 31 };

/** Days by their number: also `L` (the last), `L-3` (three days before it), `15W` (the working day nearest to the 15th), `LW` (the last working day). */
export function daysByNumber(text: string): DaysOfMonth {
  return union(
    text.split(',').map((part): DaysOfMonth => {
      const last = /^L(?:-(\d{1,2}))?(W)?$/i.exec(part);
      if (last) {
        const before = Number(last[1] ?? 0);
        if (before > 30) throw fieldError(dayOfMonth, part, 'L- is followed by a number from 0 to 30');
        return ({ weekday, length }) => {
          const day = length - before;
          if (day < 1) return [];
          return [last[2] ? nearestWorkingDay(day, weekday, length) : day];
        };
      }
      const near = /^(\d{1,2})W$/i.exec(part);
      if (near) {
        const day = fieldValue(dayOfMonth, part, near[1] ?? '');
        return ({ weekday, length }) => (day > length ? [] : [nearestWorkingDay(day, weekday, length)]);
      }
      const days = fieldValues(dayOfMonth, part);
      return ({ length }) => days.filter((day) => day <= length);
    }),
  );
}

/** Days by their weekday: also `FRI#2` (the second Friday) and `FRIL` (the last). `range` says how the dialect numbers the days. */
export function daysByWeekday(text: string, range: FieldRange): DaysOfMonth {
  const value = (given: number): number => range.value?.(given) ?? given;
  return union(
    text.split(',').map((part): DaysOfMonth => {
      const last = /^(\w+)L$/i.exec(part);
      if (last) {
        const day = value(fieldValue(range, part, last[1] ?? ''));
        return ({ weekday, length }) => [first(day, weekday) + 7 * Math.floor((length - first(day, weekday)) / 7)];
      }
      const nth = /^(\w+)#(\d)$/.exec(part);
      if (nth) {
        const day = value(fieldValue(range, part, nth[1] ?? ''));
        const number = Number(nth[2]);
        if (number < 1 || number > 5) throw fieldError(range, part, '# is followed by a number from 1 to 5');
        return ({ weekday, length }) => [first(day, weekday) + 7 * (number - 1)].filter((found) => found <= length);
      }
      const days = fieldValues(range, part);
      return ({ weekday, length }) => {
        const found: number[] = [];
        for (const day of days) for (let at = first(day, weekday); at <= length; at += 7) found.push(at);
        return found;
      };
    }),
  );
}

/** The first day of the month that has a weekday. */
function first(day: number, weekday: number): number {
  return 1 + ((day - weekday + 7) % 7);
}

/** Monday to Friday, never in another month. */
function nearestWorkingDay(day: number, weekday: number, length: number): number {
  const at = (weekday + day - 1) % 7;
  if (at === 6) return day === 1 ? 3 : day - 1;
  if (at === 0) return day === length ? day - 2 : day + 1;
  return day;
}

function union(parts: readonly DaysOfMonth[]): DaysOfMonth {
  return parts.length === 1 && parts[0] ? parts[0] : (month) => parts.flatMap((part) => part(month));
}
