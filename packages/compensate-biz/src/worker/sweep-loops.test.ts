import { expect, it } from 'vitest';
import { sweepPause } from './sweep-loops.ts';

const at = (time: string) => new Date(`2026-03-02T${time}`);

it('leads from one instant of a cron expression to the next, also when a pause has ended early', () => {
  let now = at('10:00:20.000');
  const pause = sweepPause({ cron: '* * * * *' }, () => now);
  expect(pause()).toEqual({ untilMs: 40_000 });
  // By the system's clock the instant is still to come, and was swept just now.
  now = at('10:00:59.998');
  expect(pause()).toEqual({ untilMs: 60_002 });
  now = at('10:02:00.003');
  expect(pause()).toEqual({ untilMs: 59_997 });
});

it('leaves out the instants that pass during a sweep', () => {
  let now = at('10:00:00.500');
  const pause = sweepPause({ cron: '*/1 * * * *' }, () => now);
  pause();
  now = at('10:07:30.000');
  expect(pause()).toEqual({ untilMs: 30_000 });
});

it('follows a clock that was set back', () => {
  let now = at('10:00:00.500');
  const pause = sweepPause({ cron: '0 * * * *' }, () => now);
  pause();
  now = at('08:30:00.000');
  expect(pause()).toEqual({ untilMs: 1_800_000 });
});

it('lasts about as long as a period says', () => {
  expect(sweepPause('5m')()).toBe(300_000);
});

it('refuses a cron expression that is not valid', () => {
  expect(() => sweepPause({ cron: 'now and then' })).toThrow(/sweep.cron is "now and then", which is not a valid cron expression/);
});
