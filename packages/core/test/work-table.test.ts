import fc from 'fast-check';
import { beforeAll, expect, it } from 'vitest';
import { type ClaimedRow, type Verdict, WorkTable, workColumns } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';

const states = {
  ready: 'READY',
  scheduled: 'SCHEDULED',
  blocked: 'BLOCKED',
  running: 'RUNNING',
  done: 'DONE',
  dead: 'DEAD',
  cancelled: 'CANCELLED',
} as const;
const error = { name: 'E', message: 'no' };

onEveryDatabase('work table', (suite) => {
  let table: WorkTable;
  beforeAll(async () => {
    const { database } = suite;
    const id = {
      postgres: 'BIGSERIAL PRIMARY KEY',
      sqlite: 'INTEGER PRIMARY KEY AUTOINCREMENT',
      mysql: 'BIGINT AUTO_INCREMENT PRIMARY KEY',
    }[database.family];
    const time = {
      postgres: 'TIMESTAMPTZ DEFAULT now()',
      sqlite: "TEXT DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))",
      mysql: 'DATETIME(3) DEFAULT CURRENT_TIMESTAMP(3)',
    }[database.family];
    const claim = workColumns(database).map((column) => `${column.name} ${column.type}`);
    await suite.db.knex.raw(
      `CREATE TABLE work (id ${id}, kind VARCHAR(20) NOT NULL, grp VARCHAR(20) NOT NULL DEFAULT '', status VARCHAR(12) NOT NULL DEFAULT 'READY', attempts INTEGER NOT NULL DEFAULT 0, priority INTEGER NULL, error TEXT NULL, updated_at ${time}, ${claim.join(', ')})`,
    );
    await suite.db.knex.raw(
      'CREATE TABLE work_attempt (task_id BIGINT NOT NULL, number INTEGER NOT NULL, outcome VARCHAR(20) NOT NULL, error TEXT NULL, ended_at BIGINT NOT NULL, PRIMARY KEY (task_id, number))',
    );
    table = new WorkTable(database, {
      table: 'work',
      attemptTable: 'work_attempt',
      columns: { kind: 'kind', group: 'grp', attempts: 'attempts', error: 'error' },
      payload: {},
      states,
      agingStepMs: 1000,
    });
  });
  const add = async (n: number, kind = 'k') => {
    for (let from = 0; from < n; from += 200)
      await suite.db.knex('work').insert(Array.from({ length: Math.min(200, n - from) }, () => ({ kind })));
  };
  const claim = (owner: string, limit = 100, kind = 'k') => table.claim({ kind, group: '', limit, owner, leaseMs: 1000 });
  const settle = (row: ClaimedRow, verdict: Verdict, keep = true) => table.settle([{ row, verdict, keep }]);

  it('gives each row to one claimer only', async () => {
    await add(400, 'race');
    const got = (await Promise.all(Array.from({ length: 12 }, (_, i) => claim(`o${i}`, 50, 'race')))).flat();
    while (true) {
      const more = await claim('last', 100, 'race');
      if (more.length === 0) break;
      got.push(...more);
    }
    expect(got).toHaveLength(400);
    expect(new Set(got.map((row) => row.id)).size).toBe(400);
  });

  it('returns the rows of one claim in the order of their ranks, then of their ids', async () => {
    const ranks = Array.from({ length: 60 }, (_, i) => ((i * 37) % 20) + 1);
    await suite.db.knex('work').insert(ranks.map((claim_rank) => ({ kind: 'ordered', claim_rank })));
    // Updated rows move within the table on Postgres, so that their order there is not that of their ids.
    await suite.db.knex('work').where({ kind: 'ordered' }).where('claim_rank', '>', 10).update({ attempts: 1 });
    const claimed = await claim('o', 60, 'ordered');
    const stored = await suite.db.knex('work').where({ kind: 'ordered' }).orderBy(['claim_rank', 'id']).select('id');
    expect(claimed.map((row) => row.id)).toEqual(stored.map((row) => String(row.id)));
  });

  it.each([true, false])('refuses every kind of stale settle (rows kept: %s)', async (keep) => {
    const kind = keep ? 'stale' : 'stale-gone';
    await add(6, kind);
    const first = await claim('a', 10, kind);
    suite.database.clockOffsetMs += 5000;
    await table.rescue({ maxLost: () => 3, adoptAfterMs: 1e9 });
    const verdicts: Verdict[] = [
      { outcome: 'done' },
      { outcome: 'retry', afterMs: 0, error },
      { outcome: 'dead', reason: 'rejected', error },
      { outcome: 'snooze', afterMs: 5 },
      { outcome: 'release' },
      { outcome: 'cancel', error },
    ];
    for (const [i, verdict] of verdicts.entries()) expect((await settle(first[i] as ClaimedRow, verdict, keep)).size).toBe(0);
    const again: ClaimedRow[] = [];
    for (let i = 0; i < 6; i++)
      again.push(...(await table.claim({ kind, group: '', limit: 1, owner: 'b', leaseMs: 1000, lost: { from: 1, to: 9 } })));
    expect(again.map((row) => row.lost)).toEqual([1, 1, 1, 1, 1, 1]);
    for (const row of again) expect((await settle(row, { outcome: 'done' }, keep)).size).toBe(1);
    // Also in a transaction with effects, and also if the row no longer exists.
    const late = await suite.database.transaction((sql) =>
      table.settleIn(sql, [{ row: first[0] as ClaimedRow, verdict: { outcome: 'done' }, keep }]),
    );
    expect(late.size).toBe(0);
    suite.database.clockOffsetMs = 0;
  });

  // SQLite has one writer, and no row locks.
  if (suite.name !== 'sqlite')
    it.each(['retry', 'done', 'gone'] as const)(
      'does not wait for a row that it does not settle, though it settles most of the table (%s)',
      async (how) => {
        await suite.db.knex('work').delete();
        await add(300, 'most');
        const rows = await claim('m', 299, 'most');
        const left = await suite.db.knex('work').where({ status: 'READY' }).first('id');
        await suite.db.knex.transaction(async (trx) => {
          await trx('work').where({ id: left.id }).update({ error: 'held' });
          const verdict: Verdict = how === 'retry' ? { outcome: 'retry', afterMs: 60_000, error } : { outcome: 'done' };
          const settlements = rows.map((row) => ({ row, keep: how !== 'gone', verdict }));
          const settled = await Promise.race([table.settle(settlements), new Promise<undefined>((resolve) => setTimeout(resolve, 3_000))]);
          expect(settled?.size).toBe(299);
        });
        await suite.db.knex('work').delete();
      },
    );

  it('finds so many groups of every kind, from a given group on', async () => {
    await suite.db.knex('work').delete();
    for (const kind of ['a', 'b', 'c']) await suite.db.knex('work').insert(['', 'g1', 'g2', 'g2', 'g3'].map((grp) => ({ kind, grp })));
    await suite.db.knex('work').insert([{ kind: 'b', grp: 'g9', lost: 2 }]);
    const found = async (from: Record<string, string> = {}, groupsPerKind = 2) =>
      (await table.ready({ groupsPerKind, from: new Map(Object.entries(from)) })).map(
        ({ kind, group, lost }) => `${kind}:${group}${lost.most || ''}`,
      );
    const suspect = 'b:2';
    expect(await found()).toEqual(['a:', 'a:g1', 'b:', 'b:g1', 'c:', 'c:g1', suspect]);
    expect(await found({ a: 'g1', b: 'g2', c: 'g4', d: 'x' })).toEqual(['a:g1', 'a:g2', 'b:g2', 'b:g3', suspect]);
    expect(await found({ b: 'g3' }, 1)).toEqual(['a:', 'b:g3', 'c:', suspect]);
    expect(await found({}, 1_000)).toHaveLength(13);
    await suite.db.knex('work').delete();
    expect(await table.ready()).toEqual([]);
  });

  it('skips locked rows when it renews', async () => {
    await add(2, 'renew');
    const rows = await claim('r', 2, 'renew');
    if (suite.database.family === 'sqlite')
      return expect(
        (
          await table.renew(
            rows.map((row) => row.id),
            'r',
            1000,
          )
        ).size,
      ).toBe(2);
    await suite.db.knex.transaction(async (trx) => {
      await trx('work').where({ id: rows[0]?.id }).forUpdate();
      const renewed = await table.renew(
        rows.map((row) => row.id),
        'r',
        1000,
      );
      expect([...renewed.keys()]).toEqual([rows[1]?.id]);
    });
  });

  it('claims as fast when 20,000 rows wait, are dead, or are running', async () => {
    await suite.db.knex.transaction(async (trx) => {
      for (const status of ['SCHEDULED', 'DEAD']) {
        for (let from = 0; from < 10_000; from += 500)
          await trx('work').insert(Array.from({ length: 500 }, () => ({ kind: 'behind', status, run_at: 9e15, claim_rank: -1 })));
      }
    });
    const timed = async () => {
      const times: number[] = [];
      for (let i = 0; i < 15; i++) {
        await add(1, 'behind');
        const started = performance.now();
        expect(await claim('c', 1, 'behind')).toHaveLength(1);
        times.push(performance.now() - started);
      }
      return times.sort((a, b) => a - b)[7] ?? 0;
    };
    await suite.db.knex.raw('CREATE INDEX work_ready ON work (status, kind, grp, claim_rank, id)');
    expect(await timed()).toBeLessThan(50);
  });

  it('keeps its invariants for any interleaving of claim, settle, rescue, promote and time', async () => {
    const step = fc.oneof(
      fc.record({ op: fc.constant('add' as const) }),
      fc.record({ op: fc.constant('claim' as const), owner: fc.integer({ min: 0, max: 2 }), suspects: fc.boolean() }),
      fc.record({
        op: fc.constant('settle' as const),
        at: fc.nat(50),
        verdict: fc.constantFrom<Verdict>(
          { outcome: 'done' },
          { outcome: 'retry', afterMs: 700, error },
          { outcome: 'snooze', afterMs: 300 },
          { outcome: 'release' },
          { outcome: 'dead', reason: 'rejected', error },
        ),
      }),
      fc.record({ op: fc.constant('renew' as const), owner: fc.integer({ min: 0, max: 2 }) }),
      fc.record({ op: fc.constant('rescue' as const) }),
      fc.record({ op: fc.constant('promote' as const) }),
      fc.record({ op: fc.constant('time' as const), ms: fc.integer({ min: 100, max: 1500 }) }),
    );
    let runs = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
        const kind = `p${++runs}`;
        const held: ClaimedRow[] = [];
        const live = new Map<string, number>();
        const ended = new Map<string, string>();
        let added = 0;
        for (const s of steps) {
          if (s.op === 'add') {
            await add(2, kind);
            added += 2;
          } else if (s.op === 'claim') {
            for (const row of await table.claim({
              kind,
              group: '',
              limit: 2,
              owner: `${kind}-${s.owner}`,
              leaseMs: 1000,
              ...(s.suspects ? { lost: { from: 1, to: 99 } } : {}),
            })) {
              expect(row.version).toBeGreaterThan(live.get(row.id) ?? 0);
              expect(ended.has(row.id)).toBe(false);
              live.set(row.id, row.version);
              held.push(row);
            }
          } else if (s.op === 'settle' && held.length > 0) {
            const row = held[s.at % held.length] as ClaimedRow;
            const ok = (await settle(row, s.verdict)).has(row.id);
            if (ok) expect(row.version).toBe(live.get(row.id));
            // Settled again under the same version, as after a lost reply, "done" is accepted again; no other verdict is.
            if (ok && ended.has(row.id)) expect([s.verdict.outcome, ended.get(row.id)]).toEqual(['done', 'done']);
            else if (ok && (s.verdict.outcome === 'done' || s.verdict.outcome === 'dead')) ended.set(row.id, s.verdict.outcome);
          } else if (s.op === 'renew')
            await table.renew(
              held.map((row) => row.id),
              `${kind}-${s.owner}`,
              1000,
            );
          else if (s.op === 'rescue') await table.rescue({ maxLost: () => 99, adoptAfterMs: 1e9 });
          else if (s.op === 'promote') await table.promote();
          else if (s.op === 'time') suite.database.clockOffsetMs += s.ms;
        }
        const rows = await suite.db.knex('work').where({ kind });
        expect(rows).toHaveLength(added);
        expect(
          rows
            .filter((row) => row.status === 'DONE' || row.status === 'DEAD')
            .map((row) => String(row.id))
            .sort(),
        ).toEqual([...ended.keys()].sort());
        for (const row of rows) expect(row.starts).toBeGreaterThanOrEqual(row.lost);
      }),
      { numRuns: 40 },
    );
    suite.database.clockOffsetMs = 0;
  });

  it('keeps ids exact above 2^53, and never gives one out again', async () => {
    const id = '9007199254740993';
    await suite.db.knex.raw(`INSERT INTO work (id, kind) VALUES (${id}, 'big')`);
    const [row] = await claim('big', 1, 'big');
    expect(row?.id).toBe(id);
    expect([...(await settle(row as ClaimedRow, { outcome: 'done' }, false))]).toEqual([id]);
    await add(1, 'big');
    const [next] = await claim('big', 1, 'big');
    expect(BigInt(next?.id ?? 0) > 0n && next?.id !== id).toBe(true);
  });
});
