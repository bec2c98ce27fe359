import { beforeAll, expect, it } from 'vitest';
import { Caps, Children, type ClaimedRow, SettleEffects, Turns, type Verdict, WorkTable, workColumns } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';

const error = { name: 'E', message: 'no' };

onEveryDatabase('effects of a settle', (suite) => {
  let table: WorkTable;
  let turns: Turns;
  let caps: Caps;
  let children: Children;
  let effects: SettleEffects;

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
    const { knex } = suite.db;
    await knex.raw(
      `CREATE TABLE job (id ${id}, job_kind VARCHAR(20) NOT NULL, pool VARCHAR(20) NOT NULL DEFAULT '', status VARCHAR(12) NOT NULL DEFAULT 'WAITING', tries INTEGER NOT NULL DEFAULT 0, priority INTEGER NULL, fault TEXT NULL, updated_at ${time}, turn_key VARCHAR(40) NULL, above BIGINT NULL, answer TEXT NULL, ${claim.join(', ')})`,
    );
    await knex.raw('CREATE TABLE job_parent (parent_id BIGINT NOT NULL PRIMARY KEY, total BIGINT NULL, following VARCHAR(40) NULL)');
    await knex.raw(
      'CREATE TABLE job_count (parent_id BIGINT NOT NULL, worker VARCHAR(100) NOT NULL, done BIGINT NOT NULL, failed BIGINT NOT NULL, cancelled BIGINT NOT NULL, PRIMARY KEY (parent_id, worker))',
    );
    table = new WorkTable(database, {
      table: 'job',
      columns: { kind: 'job_kind', group: 'pool', attempts: 'tries', error: 'fault' },
      payload: { key: 'turn_key', above: database.text('above') },
      states: {
        ready: 'WAITING',
        scheduled: 'LATER',
        blocked: 'BEHIND',
        running: 'BUSY',
        done: 'GOOD',
        dead: 'BAD',
        cancelled: 'OFF',
      },
      agingStepMs: 1000,
    });
    const scope = (kind: string): string => `job ${kind}`;
    turns = new Turns(table, { scope, serial: (kind) => kind === 'serial', column: 'turn_key', key: (row) => row.payload.key ?? null });
    caps = new Caps(table, { scope, limit: (kind) => (kind === 'capped' ? 2 : undefined) });
    children = new Children(table, {
      parentTable: 'job_parent',
      parentColumns: ['following'],
      countTable: 'job_count',
      resultColumn: 'answer',
      parent: (row) => row.payload.above ?? null,
    });
    effects = new SettleEffects({ turns, caps, children });
  });

  const add = async (row: Record<string, string | number>): Promise<string> => {
    const marker = `m${Math.random()}`;
    await suite.db.knex('job').insert({ fault: marker, ...row });
    return String((await suite.db.knex('job').where({ fault: marker }).first('id'))?.id);
  };
  const status = async (id: string): Promise<string> => (await suite.db.knex('job').where({ id }).first('status'))?.status;
  const claim = (kind: string): Promise<readonly ClaimedRow[]> =>
    table.claim({ kind, group: '', limit: 10, owner: 'o', leaseMs: 60_000 }, caps.cap(kind));
  const settle = (rows: readonly ClaimedRow[], verdict: Verdict, seen: string[] = []): Promise<Set<string>> => {
    const settlements = rows.map((row) => ({ row, verdict, keep: true }));
    return table.settle(
      settlements,
      effects.hook(settlements, 'o', (parent) => seen.push(parent)),
    );
  };

  it('passes the turn of a serial key on when its row ends, and not when the row is retried', async () => {
    const [first, second] = [
      await add({ job_kind: 'serial', turn_key: 'k' }),
      await add({ job_kind: 'serial', turn_key: 'k', status: 'BEHIND' }),
    ];
    const take = (id: string): Promise<boolean> => suite.database.transaction((sql) => turns.take(sql, 'serial', 'k', id));
    expect([await take(first), await take(first), await take(second)]).toEqual([true, true, false]);
    await settle(await claim('serial'), { outcome: 'retry', afterMs: 0, error });
    expect(await status(second)).toBe('BEHIND');
    const rows = await claim('serial');
    expect(rows.map((row) => row.id)).toEqual([first]);
    await settle(rows, { outcome: 'done' });
    expect(await status(second)).toBe('WAITING');
    await settle(await claim('serial'), { outcome: 'done' });
  });

  it('passes on the turn of a row that was deleted by hand', async () => {
    const [first, second] = [
      await add({ job_kind: 'serial', turn_key: 'gone' }),
      await add({ job_kind: 'serial', turn_key: 'gone', status: 'BEHIND' }),
    ];
    await suite.database.transaction((sql) => turns.take(sql, 'serial', 'gone', first));
    let opened = 0;
    const repair = (kinds: readonly string[]): Promise<number> => effects.repair(kinds, () => opened++);
    expect(await repair(['serial'])).toBe(0);
    await suite.db.knex('job').where({ id: first }).delete();
    expect(await repair(['capped', 'free'])).toBe(0);
    expect([await repair(['serial']), opened, await status(second)]).toEqual([1, 1, 'WAITING']);
    await settle(await claim('serial'), { outcome: 'done' });
  });

  it('leaves the turn to a row that is redriven while the sweep looks at it', async () => {
    const [first, second] = [
      await add({ job_kind: 'serial', turn_key: 'again', status: 'OFF' }),
      await add({ job_kind: 'serial', turn_key: 'again', status: 'BEHIND' }),
    ];
    await suite.database.transaction((sql) => turns.take(sql, 'serial', 'again', first));
    const { database } = suite;
    const transaction = database.transaction.bind(database);
    // Between the sweep's first read and its transaction.
    database.transaction = async (fn) => {
      await suite.db.knex('job').where({ id: first }).update({ status: 'WAITING' });
      return transaction(fn);
    };
    try {
      expect(await effects.repair(['serial'], () => undefined)).toBe(0);
    } finally {
      database.transaction = transaction;
    }
    expect([await status(first), await status(second)]).toEqual(['WAITING', 'BEHIND']);
    await settle(await claim('serial'), { outcome: 'done' });
    await settle(await claim('serial'), { outcome: 'done' });
  });

  it('claims no more rows of a capped kind than it has slots, and frees a slot with every verdict', async () => {
    await caps.ensure(['serial', 'capped', 'free']);
    for (let i = 0; i < 5; i++) await add({ job_kind: 'capped' });
    const [one, two] = await claim('capped');
    if (!one || !two) throw new Error('the cap lets two rows start');
    expect(await claim('capped')).toEqual([]);
    await settle([one], { outcome: 'done' });
    await settle([two], { outcome: 'snooze', afterMs: 60_000 });
    const next = await claim('capped');
    expect(next).toHaveLength(2);
    await suite.db.knex('job').where({ id: next[0]?.id }).delete();
    expect([await effects.repair(['capped'], () => undefined), (await claim('capped')).length]).toEqual([1, 1]);
  });

  it('completes a parent once, when its last child has ended', async () => {
    const parent = await add({ job_kind: 'parent', status: 'BEHIND' });
    await suite.db.knex('job_parent').insert({ parent_id: parent, following: 'next' });
    for (let i = 0; i < 3; i++) await add({ job_kind: 'child', above: parent });
    const [one, two, three] = await claim('child');
    if (!one || !two || !three) throw new Error('three children start');
    const seen: string[] = [];
    await settle([one, two], { outcome: 'done' }, seen);
    expect(await children.open()).toEqual([]);
    await suite.db.knex('job_parent').where({ parent_id: parent }).update({ total: 3 });
    expect(await children.open()).toEqual([]);
    const complete = (): Promise<unknown> => children.complete(parent, async (_sql, record) => record.following);
    expect(await complete()).toBeUndefined();
    await settle([three], { outcome: 'dead', reason: 'rejected', error }, seen);
    expect(seen).toEqual([parent, parent]);
    expect(await children.open()).toEqual([parent]);
    expect((await Promise.all([complete(), complete()])).filter((one) => one !== undefined)).toEqual(['next']);
    const row = await suite.db.knex('job').where({ id: parent }).first();
    expect([row?.status, JSON.parse(row?.answer)]).toEqual(['GOOD', { total: 3, done: 2, failed: 1, cancelled: 0 }]);
    expect(await children.open()).toEqual([]);
  });

  it('makes no hook for rows without effects, nor for a table without any', async () => {
    await add({ job_kind: 'free' });
    const [row] = await claim('free');
    if (!row) throw new Error('the row starts');
    const settlements = [{ row, verdict: { outcome: 'done' }, keep: true }] as const;
    expect(effects.hook(settlements, 'o', () => undefined)).toBeUndefined();
    expect(new SettleEffects({}).hook(settlements, 'o', () => undefined)).toBeUndefined();
    await table.settle(settlements);
  });
});
