/** Returns numbers from 0 to 1 that follow from a seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let value = Math.imul(state ^ (state >>> 15), 1 | state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const monthNames = ['JAN', 'FEB', 'MAR', 'APR', 'MAY', 'JUN', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC'];
const dayNames = ['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT'];

/** A random expression that Quartz may or may not accept, over all of its syntax. */
export function randomQuartz(random: () => number): string {
  const whole = (least: number, most: number): number => least + Math.floor(random() * (most - least + 1));
  const pick = <T>(...choices: readonly T[]): T => choices[whole(0, choices.length - 1)] as T;
  const field = (least: number, most: number, names?: readonly string[]): string => {
    const value = (): string => {
      const number = whole(least, most);
      return names && random() < 0.3 ? (names[number - least] ?? String(number)) : String(number);
    };
    const part = (): string =>
      pick(
        () => value(),
        () => value(),
        () => `${value()}-${value()}`,
        () => `${whole(least, most)}/${whole(1, most)}`,
        () => `${value()}-${value()}/${whole(1, most)}`,
      )();
    return pick(
      () => '*',
      () => value(),
      () => part(),
      () => `*/${whole(1, most)}`,
      () => Array.from({ length: whole(2, 4) }, part).join(','),
    )();
  };
  const dayOfMonth = (): string =>
    pick(
      () => field(1, 31),
      () => 'L',
      () => 'LW',
      () => `L-${whole(1, 27)}`,
      () => `${whole(1, 28)}W`,
    )();
  const dayOfWeek = (): string =>
    pick(
      () => field(1, 7, dayNames),
      () => `${whole(1, 7)}L`,
      () => `${pick(...dayNames)}L`,
      () => `${whole(1, 7)}#${whole(1, 5)}`,
      () => `${pick(...dayNames)}#${whole(1, 5)}`,
      () => 'L',
    )();
  const [day, weekday] = random() < 0.5 ? [dayOfMonth(), '?'] : ['?', dayOfWeek()];
  const years = random() < 0.2 ? ` ${pick(String(whole(2026, 2060)), `2026-${whole(2027, 2060)}`, `2026/${whole(1, 5)}`)}` : '';
  return `${field(0, 59)} ${field(0, 59)} ${field(0, 23)} ${day} ${field(1, 12, monthNames)} ${weekday}${years}`;
}
