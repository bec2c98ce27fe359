import { startStopStress, until } from '@holdfast/core/testing';
import { expect, it, vi } from 'vitest';
import {
  Breaker,
  createSnowflake,
  decodeSnowflake,
  KeyGate,
  LeaseLostError,
  LeaseShare,
  LeaseTable,
  leaderLoop,
  Once,
  Slots,
  silentLogger,
  wait,
} from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';

onEveryDatabase('leases', (suite) => {
  const tables = () => new LeaseTable(suite.database);
  const later = async (ms: number, run: () => Promise<void>) => {
    suite.database.clockOffsetMs += ms;
    try {
      await run();
    } finally {
      suite.database.clockOffsetMs -= ms;
    }
  };

  it('gives a name to one of many owners, and to another only after the lease has expired, under a higher epoch', async () => {
    const leases = tables();
    const got = (await Promise.all(Array.from({ length: 12 }, (_, i) => leases.acquire('s', 'n', `o${i}`, 10_000)))).filter(
      (lease) => lease !== undefined,
    );
    expect(got).toHaveLength(1);
    const [first] = got;
    if (!first) throw new Error('nobody got it');
    expect(await leases.acquire('s', 'n', 'late', 10_000)).toBeUndefined();
    await later(11_000, async () => {
      const second = await leases.acquire('s', 'n', 'late', 10_000);
      expect(second?.epoch).toBe(first.epoch + 1);
      await expect(leases.renew(first, 10_000)).rejects.toThrow(LeaseLostError);
      await expect(suite.database.transaction((sql) => leases.fence(sql, first))).rejects.toThrow(LeaseLostError);
      if (second) await suite.database.transaction((sql) => leases.fence(sql, second));
    });
  });

  it('gives the same owner a new epoch, so that its earlier work is refused', async () => {
    const leases = tables();
    const first = await leases.acquire('s', 'again', 'me', 10_000);
    const second = await leases.acquire('s', 'again', 'me', 10_000);
    if (!first || !second) throw new Error('not acquired');
    await expect(leases.renew(first, 10_000)).rejects.toThrow(LeaseLostError);
    await leases.release(second);
    expect(await leases.acquire('s', 'again', 'other', 10_000)).toBeDefined();
  });

  it('shares names fairly among members, and hands over at safe points only', async () => {
    const names = ['a', 'b', 'c', 'd', 'e'];
    const member = (owner: string) =>
      new LeaseShare({
        table: tables(),
        scope: 'share',
        names,
        owner,
        logger: silentLogger,
        onTaken: () => undefined,
        onLost: () => undefined,
      });
    const one = member('one');
    const two = member('two');
    expect(await one.runOnce()).toBe(5);
    await two.runOnce();
    expect(two.held).toHaveLength(0);
    await one.runOnce();
    expect(one.held).toHaveLength(5);
    for (const lease of one.held) await one.safePoint(lease);
    await two.runOnce();
    expect([one.held.length, two.held.length].sort()).toEqual([2, 3]);
    expect(new Set([...one.held, ...two.held].map((lease) => lease.name)).size).toBe(5);
  });

  it('runs a leader loop in one place at a time, and survives the start/stop stress', async () => {
    let running = 0;
    let overlap = 0;
    let runs = 0;
    const loop = (owner: string) =>
      leaderLoop({
        table: tables(),
        name: 'only-one',
        owner,
        everyMs: 1,
        logger: silentLogger,
        run: async () => {
          running += 1;
          overlap = Math.max(overlap, running);
          await new Promise((resolve) => setImmediate(resolve));
          running -= 1;
          runs += 1;
        },
      });
    const both = [loop('x'), loop('y')];
    for (const one of both) await one.start();
    await until(() => runs > 20);
    for (const one of both) await one.stop();
    expect(overlap).toBe(1);
    await startStopStress(loop('z'), { cycles: 5 });
  });

  it('keeps the lease while the work of a leader takes longer than the lease', async () => {
    const running = new Set<string>();
    let overlap = 0;
    let ended = 0;
    const loop = (owner: string) =>
      leaderLoop({
        table: tables(),
        name: 'slow-leader',
        owner,
        everyMs: 5,
        leaseMs: 300,
        logger: silentLogger,
        run: async () => {
          running.add(owner);
          overlap = Math.max(overlap, running.size);
          await wait(1_200);
          running.delete(owner);
          ended += 1;
        },
      });
    const all = [loop('x'), loop('y'), loop('z')];
    for (const one of all) await one.start();
    await until(() => ended > 1);
    await Promise.all(all.map((one) => one.stop()));
    expect(overlap).toBe(1);
  });

  it('aborts the work of a leader whose lease has passed to another', async () => {
    const leases = tables();
    const seen: unknown[] = [];
    let begun = 0;
    await using loop = leaderLoop({
      table: leases,
      name: 'robbed-leader',
      owner: 'first',
      everyMs: 5,
      leaseMs: 300,
      logger: silentLogger,
      run: ({ signal }) =>
        new Promise<void>((resolve) => {
          begun += 1;
          signal.addEventListener('abort', () => {
            seen.push(signal.reason);
            resolve();
          });
        }),
    });
    await loop.start();
    await until(() => begun === 1);
    await later(11_000, async () => {
      const taken = await leases.acquire('leader', 'robbed-leader', 'second', 60_000);
      expect(taken).toBeDefined();
      await until(() => seen.length === 1);
      expect(LeaseLostError.is(seen[0], 'lease-lost')).toBe(true);
      expect(begun).toBe(1);
      if (taken) await leases.release(taken);
      await until(() => begun === 2);
    });
  });

  it('lets one row of a key run at a time, and as many as there are slots', async () => {
    const gate = new KeyGate(suite.database);
    const heads = await Promise.all(
      ['1', '2', '3'].map((id) =>
        suite.database.transaction(async (sql) => {
          const head = await gate.lock(sql, 'g', 'k');
          if (head === null) await gate.setHead(sql, 'g', 'k', id);
          return head === null;
        }),
      ),
    );
    expect(heads.filter(Boolean)).toHaveLength(1);
    const slots = new Slots(suite.database);
    await slots.ensure('cap', 3);
    const got = await Promise.all(
      Array.from({ length: 10 }, (_, i) =>
        suite.database.transaction(async (sql) => {
          const free = await slots.lockFree(sql, 'cap', 1);
          await slots.take(sql, 'cap', free, free.length > 0 ? [`w${i}`] : []);
          return free.map(() => `w${i}`);
        }),
      ),
    );
    expect(got.flat().length).toBeLessThanOrEqual(3);
    expect((await slots.holders('cap')).length).toBe(got.flat().length);
    const [holder] = got.flat();
    expect(await suite.database.transaction((sql) => slots.free(sql, 'cap', [holder ?? '']))).toBe(1);
  });

  it('opens a breaker after failures in a row, lets one probe through, and closes on its success', async () => {
    const breaker = new Breaker(suite.database, { failures: 3, openMs: 1_000 });
    await breaker.report('b', 'n', { ok: 0, failed: 2 });
    expect(await breaker.admit('b', 'n')).toBe('all');
    await breaker.report('b', 'n', { ok: 0, failed: 1 });
    expect(await breaker.admit('b', 'n')).toBe('none');
    await later(1_500, async () => {
      const admitted = await Promise.all(Array.from({ length: 8 }, () => breaker.admit('b', 'n')));
      expect(admitted.filter((one) => one === 'probe')).toHaveLength(1);
      await breaker.report('b', 'n', { ok: 0, failed: 1 });
      expect(await breaker.state('b', 'n')).toBe('open');
    });
    await later(10_000, async () => {
      expect(await breaker.admit('b', 'n')).toBe('probe');
      await breaker.report('b', 'n', { ok: 1, failed: 0 });
      expect(await breaker.admit('b', 'n')).toBe('all');
    });
  });

  it.each([33_000 * 1.1, 1_000 / 3, 0.4])(
    'can be asked when it was opened for a time that is not a whole number (%d ms)',
    async (openMs) => {
      const name = `open ${openMs}`;
      const breaker = new Breaker(suite.database, { failures: 1, openMs, maxOpenMs: openMs });
      await breaker.report('b', name, { ok: 0, failed: 1 });
      await later(60_000, async () => {
        expect(await breaker.admit('b', name)).toBe('probe');
      });
    },
  );

  it.each([{ failures: 0.5 }, { failures: Number.NaN }, { openMs: Number.NaN }, { maxOpenMs: Number.POSITIVE_INFINITY }, { openMs: -1 }])(
    'refuses a breaker that could not be opened or asked: %o',
    (options) => {
      expect(() => new Breaker(suite.database, options)).toThrow(/breaker\.(failures|openMs|maxOpenMs) is/);
    },
  );

  it('remembers an idempotency key for its window, and forgets it with its transaction', async () => {
    const once = new Once(suite.database);
    await suite.database
      .transaction(async (sql) => {
        await once.enter(sql, 'o', 'k', 60_000);
        throw new Error('no');
      })
      .catch(() => undefined);
    const enter = () =>
      suite.database.transaction(async (sql) => {
        const entry = await once.enter(sql, 'o', 'k', 60_000);
        if (entry.first) await once.setRef(sql, 'o', 'k', 'r1');
        return entry;
      });
    const entries = await Promise.all(Array.from({ length: 10 }, enter));
    expect(entries.filter((entry) => entry.first)).toHaveLength(1);
    expect(entries.find((entry) => !entry.first)).toEqual({ first: false, ref: 'r1' });
    await later(61_000, async () => expect((await enter()).first).toBe(true));
  });

  it('never makes the same snowflake in two workers', async () => {
    const makers = await Promise.all([1, 2, 3].map(() => createSnowflake({ leases: tables() })));
    expect(new Set(makers.map((maker) => maker.workerId)).size).toBe(3);
    const ids = makers.flatMap((maker) => Array.from({ length: 20_000 }, () => maker.next()));
    expect(new Set(ids).size).toBe(60_000);
    expect(decodeSnowflake(ids[0] ?? '0').workerId).toBe(makers[0]?.workerId);
    for (const maker of makers) await maker.stop();
  });

  /** Runs it on a host whose clock reads `at`, and which takes the first worker id that is free. */
  const onHost = async <T>(at: number, run: () => Promise<T>): Promise<T> => {
    const clock = vi.spyOn(Date, 'now').mockReturnValue(at);
    const random = vi.spyOn(Math, 'random').mockReturnValue(0.5);
    try {
      return await run();
    } finally {
      clock.mockRestore();
      random.mockRestore();
    }
  };
  const many = (maker: { next(): string }) => Array.from({ length: 3_000 }, () => maker.next());

  it.each([0, 5_000, 3_600_000])(
    'never makes a snowflake again that a host made whose clock was %i ms ahead, and which stopped',
    async (aheadMs) => {
      // The second host's clock is right, by then.
      const at = Date.now() + aheadMs;
      const [first, workerId] = await onHost(at, async () => {
        const maker = await createSnowflake({ leases: tables() });
        const ids = many(maker);
        await maker.stop();
        return [ids, maker.workerId];
      });
      const second = await onHost(at, async () => {
        const maker = await createSnowflake({ leases: tables() });
        expect(maker.workerId).toBe(workerId);
        const ids = many(maker);
        await maker.stop();
        return ids;
      });
      expect(new Set([...first, ...second]).size).toBe(6_000);
      expect(BigInt(second[0] ?? 0) > BigInt(first.at(-1) ?? 0)).toBe(true);
    },
  );

  it('never makes a snowflake again that a host made whose clock was ahead, and which died', async () => {
    const leases = tables();
    const at = Date.now() + 600_000;
    let dead = false;
    const dying = new LeaseTable(suite.database);
    // The process is gone: it renews and releases nothing.
    for (const method of ['renew', 'release', 'setMark'] as const) {
      const original = dying[method].bind(dying) as (...args: never[]) => Promise<never>;
      dying[method] = ((...args: never[]) => (dead ? new Promise(() => undefined) : original(...args))) as never;
    }
    const [first, workerId] = await onHost(at, async () => {
      const maker = await createSnowflake({ leases: dying });
      const ids = many(maker);
      dead = true;
      return [ids, maker.workerId];
    });
    await later(61_000, async () => {
      const second = await onHost(at, async () => {
        const maker = await createSnowflake({ leases });
        expect(maker.workerId).toBe(workerId);
        const ids = many(maker);
        await maker.stop();
        return ids;
      });
      expect(new Set([...first, ...second]).size).toBe(6_000);
    });
  });
});
