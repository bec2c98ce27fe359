import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseCron } from './cron-expression.ts';
import { preview } from './preview.ts';
import { api, cron, daily, delay, every, once, type Trigger } from './trigger.ts';
import { Zone } from './zone.ts';

const next = (trigger: Trigger, from: string, count = 3): readonly string[] =>
  preview(trigger, { from: new Date(from), count }).map((at) => at.toISOString().replace('.000Z', 'Z'));

describe('a cron trigger', () => {
  it.each<[string, string, string, readonly string[]]>([
    // A wall-clock time in a skipped hour moves to the first instant after the gap.
    ['30 2 * * *', 'Europe/Berlin', '2026-03-28T12:00:00Z', ['2026-03-29T01:00:00Z', '2026-03-30T00:30:00Z']],
    ['30 2 * * *', 'America/New_York', '2026-03-07T12:00:00Z', ['2026-03-08T07:00:00Z', '2026-03-09T06:30:00Z']],
    ['15 2 * * *', 'Australia/Lord_Howe', '2026-10-03T00:00:00Z', ['2026-10-03T15:30:00Z', '2026-10-04T15:15:00Z']],
    ['0,30 2 * * *', 'Europe/Berlin', '2026-03-28T12:00:00Z', ['2026-03-29T01:00:00Z', '2026-03-30T00:00:00Z', '2026-03-30T00:30:00Z']],
    // In a repeated hour it counts once, the first time.
    ['30 2 * * *', 'Europe/Berlin', '2026-10-24T12:00:00Z', ['2026-10-25T00:30:00Z', '2026-10-26T01:30:00Z']],
    ['30 1 * * *', 'America/New_York', '2026-10-31T12:00:00Z', ['2026-11-01T05:30:00Z', '2026-11-02T06:30:00Z']],
    ['45 1 * * *', 'Australia/Lord_Howe', '2026-04-04T00:00:00Z', ['2026-04-04T14:45:00Z', '2026-04-05T15:15:00Z']],
    // An interval goes by elapsed time through both.
    [
      '*/30 * * * *',
      'Europe/Berlin',
      '2026-10-25T00:00:00Z',
      ['2026-10-25T00:30:00Z', '2026-10-25T01:00:00Z', '2026-10-25T01:30:00Z', '2026-10-25T02:00:00Z'],
    ],
    ['*/30 * * * *', 'Europe/Berlin', '2026-03-29T00:00:00Z', ['2026-03-29T00:30:00Z', '2026-03-29T01:00:00Z', '2026-03-29T01:30:00Z']],
    [
      '*/15 * * * *',
      'Australia/Lord_Howe',
      '2026-04-04T14:30:00Z',
      ['2026-04-04T14:45:00Z', '2026-04-04T15:00:00Z', '2026-04-04T15:15:00Z', '2026-04-04T15:30:00Z'],
    ],
    // No change of the offset since 1991.
    ['30 2 * * *', 'Asia/Shanghai', '2026-03-28T18:29:59Z', ['2026-03-28T18:30:00Z', '2026-03-29T18:30:00Z']],
    // The zone skipped the whole 30th of December.
    ['0 10 * * *', 'Pacific/Apia', '2011-12-29T12:00:00Z', ['2011-12-29T20:00:00Z', '2011-12-30T10:00:00Z', '2011-12-30T20:00:00Z']],
    ['0 0 29 2 *', 'UTC', '2026-01-01T00:00:00Z', ['2028-02-29T00:00:00Z', '2032-02-29T00:00:00Z']],
    ['14 3 19 1 *', 'UTC', '2037-06-01T00:00:00Z', ['2038-01-19T03:14:00Z', '2039-01-19T03:14:00Z']],
    ['8 14 3 19 1 * 2038', 'UTC', '2026-06-01T00:00:00Z', ['2038-01-19T03:14:08Z']],
    // Either day field selects where both are restricted.
    ['0 0 13 * 5', 'UTC', '2026-11-01T00:00:00Z', ['2026-11-06T00:00:00Z', '2026-11-13T00:00:00Z', '2026-11-20T00:00:00Z']],
    ['@weekly', 'UTC', '2026-11-30T00:00:00Z', ['2026-12-06T00:00:00Z', '2026-12-13T00:00:00Z']],
    [
      '0 9 * * fri-mon',
      'UTC',
      '2026-12-03T12:00:00Z',
      ['2026-12-04T09:00:00Z', '2026-12-05T09:00:00Z', '2026-12-06T09:00:00Z', '2026-12-07T09:00:00Z', '2026-12-11T09:00:00Z'],
    ],
    [
      '0 9 * * 5-7',
      'UTC',
      '2026-12-03T12:00:00Z',
      ['2026-12-04T09:00:00Z', '2026-12-05T09:00:00Z', '2026-12-06T09:00:00Z', '2026-12-11T09:00:00Z'],
    ],
    [
      '0 22-2 * * *',
      'UTC',
      '2026-12-03T22:30:00Z',
      ['2026-12-03T23:00:00Z', '2026-12-04T00:00:00Z', '2026-12-04T01:00:00Z', '2026-12-04T02:00:00Z', '2026-12-04T22:00:00Z'],
    ],
  ])('%s in %s after %s', (expression, zone, from, expected) => {
    expect(next(cron(expression, { zone }), from, expected.length)).toEqual(expected);
  });

  it.each([
    ['0 0 30 2 *', 'unix', /can never fire/],
    ['0 0 31 4,6,9,11 *', 'unix', /can never fire/],
    ['61 * * * *', 'unix', /minute .* '61': '61' is not a number from 0 to 59/],
    ['* * * *', 'unix', /has 4 fields; give 5/],
    ['', 'unix', /has no fields/],
    ['*/0 * * * *', 'unix', /step is '0'/],
    ['*/5/5 * * * *', 'unix', /a step is written once/],
    ['1-2-3 * * * *', 'unix', /a range has two ends/],
    ['1.5 * * * *', 'unix', /'1.5' is not a number/],
    ['0 0 * * MOO', 'unix', /'MOO' is not a name or a number from 0 to 7/],
    ['0 0 * * 5#6', 'unix', /from 1 to 5/],
    ['0 0 L-31 * *', 'unix', /from 0 to 30/],
    ['0 0 12 * * *', 'quartz', /exactly one of the two is \?/],
    ['0 0 12 ? * ?', 'quartz', /exactly one of the two is \?/],
    ['* * * * ?', 'quartz', /give 6/],
    ['0 0 12 1 JAN-SEP/3 ?', 'quartz', /which Quartz ignores/],
    ['0 0 12 ? * MON-FRI/2', 'quartz', /which Quartz ignores/],
    ['0 0 12 ? * 0', 'quartz', /number from 1 to 7/],
  ] as const)('refuses %j of %s', (expression, dialect, error) => {
    expect(() => cron(expression, { dialect })).toThrow(error);
  });

  it('refuses a zone that is not one, and odd values, with a sentence', () => {
    expect(() => cron('0 0 * * *', { zone: 'Mars/Olympus' })).toThrow(
      /zone is "Mars\/Olympus", which is not a time zone; use a name such as/,
    );
    expect(() => cron(undefined as never)).toThrow(/has no fields/);
    expect(() => cron('0 0 * * *', { dialect: 'spring' as never })).toThrow(/use 'unix' or 'quartz'/);
    expect(() => cron('0 0 * * *', { starts: '2026-01-01' })).toThrow(/give a Date, or a text with a zone/);
    expect(() => cron('0 0 * * *', { starts: '2026-01-02T00:00:00Z', ends: '2026-01-01T00:00:00Z' })).toThrow(/ends must not be earlier/);
  });

  it('fires when a search of every second says so', () => {
    const field = (least: number, most: number): fc.Arbitrary<string> => {
      const value = fc.integer({ min: least, max: most });
      return fc.oneof(
        fc.constant('*'),
        value.map(String),
        fc.tuple(value, value).map(([a, b]) => `${a}-${b}`),
        fc.tuple(value, value, fc.integer({ min: 1, max: most })).map(([a, b, step]) => `${a}-${b}/${step},${b}`),
      );
    };
    const fields = fc.tuple(field(0, 59), field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7));
    fc.assert(
      fc.property(fields, fc.integer({ min: 0, max: 40 * 365 * 24 }), (given, hour) => {
        const expression = given.join(' ');
        const from = Date.UTC(2000, 0, 1) + hour * 3_600_000;
        const { seconds, minutes, hours, months, days } = parseCron(expression, 'unix');
        const searched: number[] = [];
        for (let at = from + 1000; at <= from + 3 * 3_600_000 && searched.length < 5; at += 1000) {
          const date = new Date(at);
          const month = {
            weekday: new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), 1)).getUTCDay(),
            length: new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate(),
          };
          if (
            seconds.includes(date.getUTCSeconds()) &&
            minutes.includes(date.getUTCMinutes()) &&
            hours.includes(date.getUTCHours()) &&
            months.has(date.getUTCMonth() + 1) &&
            days(month).includes(date.getUTCDate())
          )
            searched.push(at);
        }
        let trigger: Trigger;
        try {
          trigger = cron(expression);
        } catch {
          return searched.length === 0;
        }
        const found = preview(trigger, { from: new Date(from), count: 5 })
          .map(Number)
          .filter((at) => at <= from + 3 * 3_600_000);
        expect(found).toEqual(searched);
        return true;
      }),
      { numRuns: 200 },
    );
  });
});

describe('other triggers', () => {
  it('every counts from its start, and never drifts', () => {
    expect(next(every('90m', { starts: '2026-01-01T00:10:00Z' }), '2026-01-01T02:00:00Z')).toEqual([
      '2026-01-01T03:10:00Z',
      '2026-01-01T04:40:00Z',
      '2026-01-01T06:10:00Z',
    ]);
  });
  it('does not fire before it starts, and does fire at its end', () => {
    const bounded = { starts: '2026-06-01T00:00:00Z', ends: '2026-06-03T00:00:00Z' };
    expect(next(cron('@daily', bounded), '2026-01-01T00:00:00Z', 9)).toEqual([
      '2026-06-01T00:00:00Z',
      '2026-06-02T00:00:00Z',
      '2026-06-03T00:00:00Z',
    ]);
    expect(next(every('1d', bounded), '2026-06-02T12:00:00Z', 9)).toEqual(['2026-06-03T00:00:00Z']);
  });
  it('delay is due its pause after the end of the last run', () => {
    expect(next(delay('10s'), '2026-01-01T00:00:00Z')).toEqual(['2026-01-01T00:00:10Z']);
  });
  it('daily fires between two times of day on its weekdays', () => {
    const trigger = daily({ every: '40m', from: '09:00', to: '10:20', days: ['MON', 'FRI'], zone: 'Asia/Shanghai' });
    expect(next(trigger, '2026-11-30T12:00:00Z', 4)).toEqual([
      '2026-12-04T01:00:00Z',
      '2026-12-04T01:40:00Z',
      '2026-12-04T02:20:00Z',
      '2026-12-07T01:00:00Z',
    ]);
  });
  it('once fires once, api never', () => {
    expect(next(once('2026-12-24T18:00:00+01:00'), '2026-01-01T00:00:00Z')).toEqual(['2026-12-24T17:00:00Z']);
    expect(next(once('2026-12-24T18:00:00+01:00'), '2026-12-24T17:00:00Z')).toEqual([]);
    expect(next(api(), '2026-01-01T00:00:00Z')).toEqual([]);
  });
  it('jitter moves all fires of one job by the same time, and other jobs by others', () => {
    const trigger = cron('@hourly', { jitter: '10m' });
    const shifts = ['a', 'b', 'c', 'd'].map((key) => {
      const found = preview(trigger, { from: new Date('2026-01-01T00:00:00Z'), key, count: 24 }).map((at) => at.getTime() % 3_600_000);
      expect(new Set(found).size).toBe(1);
      expect(found[0]).toBeLessThanOrEqual(600_000);
      return found[0];
    });
    expect(new Set(shifts).size).toBe(4);
  });
  it('a calendar leaves days out, in the zone of the trigger', () => {
    const days: string[] = [];
    const allows = (day: string): boolean => {
      days.push(day);
      return day !== '2026-01-02';
    };
    const trigger = cron('30 2 * * *', { zone: 'Asia/Shanghai', calendar: 'holidays' });
    const found = preview(trigger, { from: new Date('2025-12-31T20:00:00Z'), count: 2, allows });
    expect(found.map((at) => at.toISOString())).toEqual(['2026-01-02T18:30:00.000Z', '2026-01-03T18:30:00.000Z']);
    expect(days).toEqual(['2026-01-02', '2026-01-03', '2026-01-04']);
  });
  it.each([
    [() => every('500ms'), /the shortest is one second/],
    [() => every(Number.NaN), /give milliseconds/],
    [() => delay(-1), /between 0 and ten years/],
    [() => daily({ every: '1h', from: '18:00', to: '09:00' }), /to must not be earlier/],
    [() => daily({ every: '1h', from: '9:00', to: '18:00' }), /give a time of day such as '09:00'/],
    [() => daily({ every: '1h', from: '09:00', to: '18:00', days: [] }), /give at least one of SUN/],
    [() => daily({ every: '2d', from: '09:00', to: '18:00' }), /must not be longer than a day/],
    [() => once('tomorrow'), /give a Date, or a text with a zone/],
    [() => once(new Date(Number.NaN)), /give a Date/],
    [() => preview(api(), { from: new Date(), count: 1_000_000 }), /whole number from 1 to 1000/],
  ])('refuses odd values: %s', (make, error) => {
    expect(make).toThrow(error);
  });
  it('is plain data', () => {
    for (const trigger of [
      cron('@daily', { jitter: '1m', calendar: ['a'] }),
      every('1m'),
      delay('1m'),
      daily({ every: '1h', from: '09:00', to: '10:00' }),
      once(new Date(0)),
      api(),
    ])
      expect(JSON.parse(JSON.stringify(trigger))).toEqual(trigger);
  });
});

describe('a zone', () => {
  it('turns every instant of a year into its wall time and back', () => {
    for (const name of [
      'Europe/Berlin',
      'America/New_York',
      'Australia/Lord_Howe',
      'Asia/Kathmandu',
      'America/St_Johns',
      'Africa/Casablanca',
    ]) {
      const zone = Zone.of(name);
      for (let at = Date.UTC(2026, 0, 1); at < Date.UTC(2027, 0, 1); at += 900_000) {
        const meaning = zone.meaning(zone.wall(at));
        if (meaning.kind === 'skipped') throw new Error(`${name} skips ${new Date(at).toISOString()}, which it showed`);
        if (meaning.at !== at) expect(meaning).toMatchObject({ kind: 'twice', again: at });
      }
    }
  });
});
