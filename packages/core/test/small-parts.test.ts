import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  cleanText,
  decodeSnowflake,
  defineLoop,
  durationMs,
  every,
  exponential,
  HoldfastError,
  InvalidArgumentError,
  RowRemover,
  SnowflakeSequence,
  silentLogger,
  steps,
  storedError,
  unfitText,
  uuidv7,
} from '../src/index.ts';
import { until } from '../src/testing/index.ts';
import { SnowflakeId } from './snowflake-id.ts';

describe('backoff', () => {
  it('counts retries in its parts, and attempts in upTo', () => {
    const schedule = steps('3s', '9s', '27s', '81s').then(every('30m').upTo(10));
    expect(schedule.maxAttempts).toBe(10);
    expect([1, 2, 3, 4, 5, 9, 10].map((attempt) => schedule.delayMs(attempt))).toEqual([
      3000,
      9000,
      27_000,
      81_000,
      1_800_000,
      1_800_000,
      undefined,
    ]);
    expect(every('1s').times(2).then(steps('5s')).delayMs(3)).toBe(5000);
  });

  it('grows exponentially up to its cap, and jitter never shortens a delay', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 200 }), fc.double({ min: 0, max: 1, noNaN: true }), (attempt, random) => {
        const plain = exponential({ first: '1s', factor: 2, cap: '1m' }).delayMs(attempt) ?? 0;
        const jittered =
          exponential({ first: '1s', factor: 2, cap: '1m' })
            .jitter(0.5)
            .delayMs(attempt, () => random) ?? 0;
        return plain <= 60_000 && jittered >= plain && jittered <= plain * 1.5 + 1;
      }),
    );
  });

  it('refuses arguments that are not valid', () => {
    for (const bad of [
      () => every(-1),
      () => steps('5 parsecs'),
      () => every('1s').then(every('1s')),
      () => durationMs(1e15),
      () => every('1s').upTo(0),
      () => exponential({ first: 1, factor: 0.5 }),
    ]) {
      expect(bad).toThrow(InvalidArgumentError);
    }
  });
});

describe('ids', () => {
  it('never repeats a snowflake past 4,096 in a millisecond, nor when the clock steps back', () => {
    let now = 1_000_000;
    const sequence = new SnowflakeSequence({ mid: 7, offset: 0, now: () => now });
    const seen = new Set<bigint>();
    let last = -1n;
    for (let i = 0; i < 50_000; i++) {
      if (i === 20_000) now -= 50;
      if (i % 1000 === 0) now += 1;
      const id = sequence.nextBigInt();
      expect(id > last).toBe(true);
      last = id;
      seen.add(id);
    }
    expect(seen.size).toBe(50_000);
  });

  it('makes no snowflake after the time that is allowed, and none before the last of another', () => {
    const from = 1_000_000;
    let now = from;
    const sequence = new SnowflakeSequence({ mid: 7, now: () => now, after: from + 10, until: from + 12 });
    const ids = Array.from({ length: 2 * 4_096 }, () => sequence.nextBigInt());
    expect(new Set(ids.map((id) => decodeSnowflake(id).timeMs))).toEqual(new Set([from + 11, from + 12]));
    for (let i = 0; i < 3; i++) expect(() => sequence.nextBigInt()).toThrow(RangeError);
    // The clock jumps past what is allowed next: the time before that is not lost.
    now = from + 5_000;
    sequence.allowUntil(from + 14);
    expect(decodeSnowflake(sequence.nextBigInt()).timeMs).toBe(from + 13);
    sequence.allowUntil(from + 6_000);
    expect(decodeSnowflake(sequence.nextBigInt()).timeMs).toBe(now);
  });

  it('has the layout of snowflake-id', () => {
    const theirs = new SnowflakeId({ mid: 42, offset: 1_577_836_800_000 }).generate();
    const parts = decodeSnowflake(theirs, 1_577_836_800_000);
    expect(parts.workerId).toBe(42);
    expect(Math.abs(parts.timeMs - Date.now())).toBeLessThan(5_000);
  });

  it('makes ascending version 7 UUIDs', () => {
    const ids = Array.from({ length: 10_000 }, () => uuidv7());
    expect([...ids].sort()).toEqual(ids);
    expect(new Set(ids).size).toBe(10_000);
    expect(ids[0]).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });
});

describe('a loop that fails', () => {
  it('pauses longer each time, and no longer than two seconds', async () => {
    const starts: number[] = [];
    const loop = defineLoop({
      name: 'failing',
      logger: silentLogger,
      minMs: 1_200,
      runOnce: async () => {
        starts.push(performance.now());
        throw new Error('the database is away');
      },
    });
    await loop.start();
    await until(() => starts.length === 4);
    await loop.stop();
    const pauses = starts.slice(1).map((at, i) => at - (starts[i] ?? 0));
    expect(pauses[0]).toBeLessThan(1_700);
    for (const ms of pauses.slice(1)) expect(ms).toBeGreaterThan(1_750);
    // The pause varies by a tenth, so that processes do not all poll at the same time.
    for (const ms of pauses.slice(1)) expect(ms).toBeLessThan(2_500);
  });
});

describe('the remover of rows', () => {
  it('removes rows that are pushed at the moment at which its loop ends', async () => {
    const removed: number[] = [];
    const remover: RowRemover<number> = new RowRemover<number>({
      remove: async (rows) => removed.push(...rows),
      // Runs after the last check for waiting rows, and before the end of the loop is known.
      onRemoved: ([row]) => row === 1 && queueMicrotask(() => remover.push([2])),
      onError: () => undefined,
    });
    remover.push([1]);
    await until(() => removed.length === 2, { withinMs: 1_000 });
    expect(removed).toEqual([1, 2]);
    expect(await remover.flush(1_000)).toBe(true);
  });
});

describe('text and errors', () => {
  it('cleans any text so that it can be stored', () => {
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => unfitText(cleanText(text)) === undefined));
    expect(unfitText('a\uD800b')).toContain('surrogate');
  });

  it('stores anything thrown, small and clean', () => {
    fc.assert(fc.property(fc.anything(), (thrown) => storedError(thrown).message.length <= 2000));
    expect(storedError(new Error('x'.repeat(5000))).message).toHaveLength(2000);
    const odd = fc.record({ name: fc.anything(), message: fc.anything(), code: fc.anything() }, { requiredKeys: [] });
    fc.assert(
      fc.property(odd, (properties) => {
        const stored = storedError(Object.assign(new Error('x'), properties));
        expect([typeof stored.name, typeof stored.message]).toEqual(['string', 'string']);
      }),
    );
    expect(storedError(Object.assign(new Error(), { message: { fault: 7 } })).message).toBe('{"fault":7}');
    const hostile = new Proxy(new Error('x'), {
      get() {
        throw new Error('no');
      },
    });
    expect(storedError(hostile)).toEqual({ name: 'Error', message: '' });
  });

  it('recognises its errors across copies of the package', () => {
    const foreign = Object.defineProperty(Object.assign(new Error('e'), { code: 'lease-lost' }), Symbol.for('holdfast.error'), {
      value: true,
    });
    expect(HoldfastError.is(foreign, 'lease-lost')).toBe(true);
    expect(HoldfastError.is(new Error('e'))).toBe(false);
  });
});
