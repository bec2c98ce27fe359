import {
  type Actor,
  audit,
  type Database,
  deleteOlder,
  forUpdate,
  InvalidArgumentError,
  idText,
  requireActor,
  type SqlRunner,
  wait,
} from '@holdfast/core';
import { headersOf, messageColumns, type OutboxRow, orderName } from '../table/message-columns.ts';

/** Selects dead letters. Without any field it selects all of them. */
export interface DeadFilter {
  readonly topic?: string;
  readonly key?: string;
  /** Row id of the dead letter, as `list` shows it. */
  readonly id?: string;
  readonly reason?: 'poison' | 'exhausted';
}

/** Options of a redrive. */
export interface RedriveOptions {
  /** Messages per second at most. Default: no limit. */
  readonly rate?: number;
  /** Counts the dead letters and changes nothing. Default false. */
  readonly dryRun?: boolean;
}

const chunk = 200;

type DeadRow = Pick<OutboxRow, 'id' | 'lane' | 'topic' | 'message_key' | 'headers'>;

/**
 * Publishes dead letters again. A letter whose key is held (`onPoison: 'hold-key'`) takes its old place before the later messages of the
 * key, and the hold ends. Any other letter comes after messages that were put since, and carries the header `x-redriven`.
 * Returns the number of letters.
 */
export async function redriveDead(database: Database, filter: DeadFilter, options: RedriveOptions, by: Actor): Promise<number> {
  requireActor(by, 'redrive');
  const { rate } = options;
  if (rate !== undefined && !(rate > 0)) throw new InvalidArgumentError(`rate is ${rate}; give a number of messages per second, above 0.`);
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
    if (moved.count < size) return total;
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
    where.push(`t.id = ${idText('id', filter.id)}`);
  }
  return { sql: where.join(' AND '), params };
}

async function redriveChunk(
  database: Database,
  sql: SqlRunner,
  condition: string,
  params: readonly unknown[],
  after: bigint,
  size: number,
  by: Actor,
): Promise<{ count: number; last: bigint } | undefined> {
  const dead = database.table('outbox_dead');
  const lock = forUpdate(database);
  // Without the bodies, which are copied by the server.
  const rows = await sql.rows<DeadRow>(
    `SELECT ${database.text('id')} AS id, lane, topic, message_key, headers FROM ${dead} t WHERE ${condition} AND t.id > ${after} ORDER BY t.id LIMIT ${size}${lock}`,
    params,
  );
  const last = rows.at(-1);
  if (!last) return undefined;
  const own = messageColumns.filter((column) => column !== 'headers' && column !== 'first_put_at').join(', ');
  for (const row of rows) {
    const name = orderName(row);
    const freed = await sql.run(
      `UPDATE ${database.table('outbox_held')} SET until_at = {now} WHERE lane = ? AND hold = ? AND until_at IS NULL`,
      [row.lane, name],
    );
    const from = `FROM ${dead} t WHERE t.id = ${BigInt(row.id)}`;
    if (freed > 0) {
      await sql.run(
        `INSERT INTO ${database.table('outbox_parked')} (id, lane, hold, ${own}, headers, first_put_at) SELECT t.id, lane, ?, ${own}, headers, {now} ${from}`,
        [name],
      );
    } else {
      await sql.run(
        `INSERT INTO ${database.table('outbox_message')} (lane, ${own}, headers, first_put_at) SELECT lane, ${own}, ${database.family === 'postgres' ? '?::text' : '?'}, {now} ${from}`,
        [redrivenHeaders(row)],
      );
    }
  }
  await sql.run(`${database.deleteByPrimaryKey(dead)} WHERE id IN (${rows.map(({ id }) => BigInt(id)).join(', ')})`);
  await audit(database, sql, by, 'outbox:redrive', `${rows.length} dead letters up to ${last.id}`);
  return { count: rows.length, last: BigInt(last.id) };
}

/** Marks the message as redriven. Headers that can't be read stay: the relay gives the message back to the dead letters, with the reason. */
function redrivenHeaders(row: DeadRow): string | null {
  try {
    return JSON.stringify({ ...headersOf(row), 'x-redriven': '1' });
  } catch {
    return row.headers;
  }
}

/** Deletes dead letters older than `ageMs`, in batches. Returns their number. */
export function purgeDead(database: Database, ageMs: number): Promise<number> {
  return deleteOlder(database, database.table('outbox_dead'), 'dead_at', `{now} - ${ageMs}`);
}
