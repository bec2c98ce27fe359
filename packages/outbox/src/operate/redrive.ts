import { type Actor, audit, type Database, type Duration, durationMs, InvalidArgumentError, requireActor, wait } from '@holdfast/core';
import { messageColumns, type OutboxRow, orderName } from '../table/message-columns.ts';

/** Which dead letters. Without any: all. */
export interface DeadFilter {
  readonly topic?: string;
  readonly key?: string;
  /** Of the dead letter, as `list` shows it. */
  readonly id?: string;
  readonly reason?: 'poison' | 'exhausted';
}

/** How fast dead messages are put again, and whether only to count them. */
export interface RedriveOptions {
  /** Messages per second at most. Default no limit. */
  readonly rate?: number;
  /** Only counts. */
  readonly dryRun?: boolean;
}

const chunk = 200;

interface DeadRow extends OutboxRow {
  readonly tenant: string;
}

/**
 * Publishes dead letters again. One whose key is held (`onPoison: 'hold-key'`) takes its old place before the others, and the hold
 * ends; any other comes late, after what was published since, and says so in the header `x-redriven`.
 * Returns how many there were.
 */
export async function redriveDead(database: Database, filter: DeadFilter, options: RedriveOptions, by: Actor): Promise<number> {
  requireActor(by, 'redrive');
  const { rate } = options;
  if (rate !== undefined && !(rate > 0)) throw new InvalidArgumentError(`rate is ${rate}; give messages per second.`);
  const { sql, params } = conditions(filter);
  const dead = database.table('outbox_dead');
  if (options.dryRun) {
    const [row] = await database.rows<{ n: string | number }>(`SELECT count(*) AS n FROM ${dead} t WHERE ${sql}`, params);
    return Number(row?.n ?? 0);
  }
  let total = 0;
  const size = rate === undefined ? chunk : Math.max(1, Math.min(chunk, Math.floor(rate)));
  for (let after = 0n; ; ) {
    const started = performance.now();
    const moved = await database.transaction((x) => redriveChunk(database, x, sql, params, after, size, by));
    if (!moved) return total;
    total += moved.count;
    after = moved.last;
    if (moved.seen < size) return total;
    if (rate !== undefined) await wait(Math.max(0, (moved.count / rate) * 1_000 - (performance.now() - started)));
  }
}

function conditions(filter: DeadFilter): { sql: string; params: unknown[] } {
  const where = ['1 = 1'];
  const params: unknown[] = [];
  for (const [column, value] of [
    ['topic', filter.topic],
    ['message_key', filter.key],
    ['reason', filter.reason],
  ] as const) {
    if (value === undefined) continue;
    where.push(`${column} = ?`);
    params.push(value);
  }
  if (filter.id !== undefined) {
    if (!/^\d{1,19}$/.test(filter.id)) throw new InvalidArgumentError(`id is ${JSON.stringify(filter.id)}; give the id of a dead letter.`);
    where.push(`t.id = ${BigInt(filter.id)}`);
  }
  return { sql: where.join(' AND '), params };
}

async function redriveChunk(
  database: Database,
  sql: Parameters<Parameters<Database['transaction']>[0]>[0],
  condition: string,
  params: readonly unknown[],
  after: bigint,
  size: number,
  by: Actor,
): Promise<{ count: number; seen: number; last: bigint } | undefined> {
  const dead = database.table('outbox_dead');
  const lock = database.family === 'sqlite' ? '' : ' FOR UPDATE';
  const rows = await sql.rows<DeadRow>(
    `SELECT ${database.text('id')} AS id, lane, ${messageColumns.join(', ')} FROM ${dead} t WHERE ${condition} AND t.id > ${after} ORDER BY t.id LIMIT ${size}${lock}`,
    params,
  );
  const last = rows.at(-1);
  if (!last) return undefined;
  for (const row of rows) {
    const name = orderName(row);
    const freed = await sql.run(
      `UPDATE ${database.table('outbox_held')} SET until_at = {now} WHERE lane = ? AND hold = ? AND until_at IS NULL`,
      [row.lane, name],
    );
    const own = messageColumns.filter((column) => column !== 'headers' && column !== 'first_put_at');
    const values = own.map((column) => row[column]);
    const headers = JSON.stringify({ ...(row.headers === null ? {} : JSON.parse(row.headers)), 'x-redriven': '1' });
    if (freed > 0) {
      await sql.run(
        `INSERT INTO ${database.table('outbox_parked')} (id, lane, hold, ${own.join(', ')}, headers, first_put_at) VALUES (${BigInt(row.id)}, ?, ?, ${own.map(() => '?').join(', ')}, ?, {now})`,
        [row.lane, name, ...values, row.headers],
      );
    } else {
      await sql.run(
        `INSERT INTO ${database.table('outbox_message')} (lane, ${own.join(', ')}, headers, first_put_at) VALUES (?, ${own.map(() => '?').join(', ')}, ?, {now})`,
        [row.lane, ...values, headers],
      );
    }
  }
  await sql.run(`${database.deleteByPrimaryKey(dead)} WHERE id IN (${rows.map(({ id }) => BigInt(id)).join(', ')})`);
  await audit(database, sql, by, 'outbox:redrive', `${rows.length} dead letters up to ${last.id}`);
  return { count: rows.length, seen: rows.length, last: BigInt(last.id) };
}

/** Deletes dead letters older than `age`, in batches. */
export async function purgeDead(database: Database, age: Duration): Promise<number> {
  const ageMs = durationMs(age, 'age');
  const dead = database.table('outbox_dead');
  let total = 0;
  for (;;) {
    const rows = await database.rows<{ id: string }>(
      `SELECT ${database.text('id')} AS id FROM ${dead} t WHERE dead_at < {now} - ${ageMs} ORDER BY t.id LIMIT 500`,
    );
    if (rows.length === 0) return total;
    const ids = rows.map(({ id }) => BigInt(id)).join(', ');
    total += await database.run(`${database.deleteByPrimaryKey(dead)} WHERE id IN (${ids})`);
  }
}
