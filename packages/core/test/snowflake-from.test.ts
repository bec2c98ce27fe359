import fc from 'fast-check';
import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  ClockBehindError,
  createSnowflake,
  decodeSnowflake,
  InvalidArgumentError,
  LeaseTable,
  type SnowflakeGenerator,
  snowflakeFrom,
} from '../src/index.ts';
import { FastSnowflakeId, SnowflakeId } from './snowflake-id.ts';
import { onEveryDatabase } from './suite.ts';

const offset = Date.UTC(2024, 0, 1);

/** A clock that goes on by a millisecond after `callsPerMs` looks at it, and by a millisecond in one while the process waits; it can be set. */
function slowClock(callsPerMs: number, from = Date.now()) {
  let calls = 0;
  let ms = from;
  const timer = setInterval(() => {
    ms += 1;
  }, 1);
  const { now } = Date;
  // A spy would keep each of a million calls.
  Date.now = () => {
    if (++calls % callsPerMs === 0) ms += 1;
    return ms;
  };
  return {
    step: (by: number) => {
      ms += by;
    },
    [Symbol.dispose]: () => {
      clearInterval(timer);
      Date.now = now;
    },
  };
}

function many(generator: SnowflakeGenerator, count: number): bigint[] {
  return Array.from({ length: count }, () => BigInt(generator.generate()));
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe('snowflake-id alone', () => {
  it('repeats ids past 4,096 in a millisecond, and when the clock steps back', () => {
    using clock = slowClock(6_000);
    const ids = many(new SnowflakeId({ mid: 7, offset }), 9_000);
    expect(new Set(ids).size).toBeLessThan(9_000);
    const generator = new SnowflakeId({ mid: 7, offset });
    clock.step(1_000);
    const before = many(generator, 10);
    clock.step(-1);
    many(generator, 1);
    clock.step(1);
    expect(before).toEqual(expect.arrayContaining(many(generator, 1)));
  });

  it('makes worker id 1 of 0 and 0 of 1023', () => {
    const workerId = (mid: number) => decodeSnowflake(new SnowflakeId({ mid, offset }).generate()).workerId;
    expect([0, 1, 1_022, 1_023].map(workerId)).toEqual([1, 1, 1_022, 0]);
  });

  it('makes the same ids as its fast copy here', () => {
    const from = Date.now();
    const run = (generator: SnowflakeGenerator) => {
      using clock = slowClock(4_500, from);
      const ids = many(generator, 6_000);
      clock.step(-3);
      return [...ids, ...many(generator, 6_000)];
    };
    expect(run(new SnowflakeId({ mid: 9, offset }))).toEqual(run(new FastSnowflakeId({ mid: 9, offset })));
  });
});

onEveryDatabase('snowflakes of a library', (suite) => {
  const tables = () => new LeaseTable(suite.database);

  // Ids are the same whatever the database is.
  it.runIf(suite.name === 'sqlite')(
    'never repeats an id: a million of them, over full milliseconds, clock steps and restarts',
    { timeout: 60_000 },
    async () => {
      const seen = new BigUint64Array(1_000_000);
      let made = 0;
      let drops = 0;
      class Counted extends FastSnowflakeId {
        #last = -1n;
        override generate(): bigint {
          const id = super.generate();
          if (id <= this.#last) drops += 1;
          else this.#last = id;
          return id;
        }
      }
      const steps = fc.array(fc.record({ after: fc.integer({ min: 0, max: 99_999 }), by: fc.integer({ min: -12, max: 12 }) }), {
        minLength: 3,
        maxLength: 8,
      });
      await fc.assert(
        fc.asyncProperty(steps, async (steps) => {
          using clock = slowClock(6_000);
          // Each run takes the worker id of the one before, if it may.
          const random = vi.spyOn(Math, 'random').mockReturnValue(0.5);
          const ids = await snowflakeFrom((mid, offset) => new Counted({ mid, offset }), { leases: tables() });
          random.mockRestore();
          let last = 0n;
          const from = made;
          const take = async (count: number) => {
            for (const id of await ids.take(count)) {
              const value = BigInt(id);
              if (value <= last) throw new Error(`${id} follows ${last}`);
              last = value;
              seen[made++] = value;
            }
          };
          for (const { after, by } of steps.toSorted((a, b) => a.after - b.after)) {
            await take(Math.max(0, from + after - made));
            clock.step(by);
          }
          await take(from + 100_000 - made);
          await ids.stop();
        }),
        { numRuns: 10, endOnFailure: true },
      );
      expect(made).toBe(1_000_000);
      seen.sort();
      expect(seen.findIndex((id, at) => id === seen[at - 1])).toBe(-1);
      expect(drops).toBeGreaterThan(100);
    },
  );

  it('makes ids of snowflake-id itself, in two processes and beside those of core', async () => {
    using clock = slowClock(6_000);
    const made = (mid: number, offset: number) => new SnowflakeId({ mid, offset });
    const [one, other, own] = [
      await snowflakeFrom(made, { leases: tables() }),
      await snowflakeFrom(made, { leases: tables() }),
      await createSnowflake({ leases: tables() }),
    ];
    const ids = await Promise.all([one.take(9_000), other.take(100)]);
    clock.step(-5);
    const more = [...(await one.take(100)), await one.next(), ...Array.from({ length: 100 }, () => own.next())];
    expect(new Set([...ids.flat(), ...more]).size).toBe(9_301);
    expect(new Set([one, other, own].map(({ workerId }) => workerId)).size).toBe(3);
    expect(decodeSnowflake(more[0] ?? '').workerId).toBe(one.workerId);
    for (const each of [one, other, own]) await each.stop();
    await expect(one.next()).rejects.toThrow('stopped');
  });

  it('refuses at once when the clock is further behind than a call may wait, and goes on when it has caught up', async () => {
    using clock = slowClock(6_000);
    const ids = await snowflakeFrom((mid, offset) => new FastSnowflakeId({ mid, offset }), { leases: tables(), waitMs: 200 });
    // Further than the lease allows: the time is allowed first.
    clock.step(600_000);
    const before = await ids.next();
    clock.step(-600_000);
    const refused = await ids.next().catch((error: unknown) => error);
    expect(refused).toBeInstanceOf(ClockBehindError);
    expect(refused).toMatchObject({ code: 'clock-behind', retryable: true });
    clock.step(599_990);
    expect(BigInt(await ids.next()) > BigInt(before)).toBe(true);
    clock.step(-100);
    await expect(ids.next({ signal: AbortSignal.timeout(10) })).rejects.toMatchObject({ name: 'TimeoutError' });
    await ids.stop();
  });

  it('leaves a worker id whose ids are of a time that the clock has not reached', async () => {
    const create = (mid: number, offset: number) => new FastSnowflakeId({ mid, offset });
    using clock = slowClock(6_000);
    vi.spyOn(Math, 'random').mockReturnValue(0.5);
    clock.step(600_000);
    const ahead = await snowflakeFrom(create, { leases: tables() });
    await ahead.next();
    await ahead.stop();
    clock.step(-600_000);
    const next = await snowflakeFrom(create, { leases: tables() });
    expect(next.workerId).not.toBe(ahead.workerId);
    await next.stop();
  });

  it('refuses a generator of another worker id, offset or kind, and leaves its worker id free', async () => {
    const wrong: readonly ((mid: number, offset: number) => SnowflakeGenerator)[] = [
      (mid, offset) => new FastSnowflakeId({ mid: mid === 5 ? 6 : 5, offset }),
      (mid) => new FastSnowflakeId({ mid, offset: 0 }),
      () => ({ generate: () => 'abc' }),
      () => ({ generate: () => 12 as never }),
      () => {
        throw new InvalidArgumentError('mine');
      },
    ];
    for (const create of wrong)
      await expect(snowflakeFrom(create, { leases: tables() })).rejects.toMatchObject({ code: 'invalid-argument' });
    expect((await tables().holders('snowflake')).size).toBe(0);
  });
});
