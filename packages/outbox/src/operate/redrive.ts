import {
  type Actor,
  audit,
  type BulkCounts,
  type BulkFilter,
  type BulkOptions,
  type BulkRow,
  changeInBulk,
  type Database,
  deleteOlder,
  filterConditions,
  filterTexts,
  forUpdate,
  InvalidArgumentError,
  idList,
  idText,
  requireFilters,
  requireKnown,
  type SqlRunner,
  shownValue,
} from '@holdfast/core';
import { headersOf, messageColumns, type OutboxRow, orderName } from '../table/message-columns.ts';

/** Selects dead letters. Without any field it selects all of them; each field restricts the selection. */
export interface DeadFilter {
  readonly topic?: string;
  readonly key?: string;
  readonly subject?: string;
  readonly tenant?: string;
  /** Row id of the dead letter, as `list` shows it. */
  readonly id?: string;
  /** `poison`: the broker can never accept the message. `exhausted`: the schedule `hold` of the relay has ended. */
  readonly reason?: 'poison' | 'exhausted';
  /** Only messages that became dead letters at this time or later. */
  readonly failedAfter?: Date;
  /** Only messages that became dead letters before this time. */
  readonly failedBefore?: Date;
}

/** Options of a redrive: the same in every package. */
export type RedriveOptions = BulkOptions;

type DeadRow = Pick<OutboxRow, 'id' | 'lane' | 'topic' | 'message_key' | 'headers'>;

/**
 * Publishes dead letters again, in the order of their ids. A letter whose key is held (`onPoison: 'hold-key'`) takes its old place before the
 * later messages of the key, and the hold ends. Any other letter comes after messages that were put since, and carries the header
 * `x-redriven`.
 */
export function redriveDead(database: Database, filter: DeadFilter, options: RedriveOptions, changed: () => void): Promise<BulkCounts> {
  const { sql, params } = condition(filter);
  return changeInBulk(
    {
      verb: 'redrive',
      read: async (after, limit): Promise<readonly BulkRow[]> => {
        const rows = await database.rows<{ id: string }>(
          `SELECT ${database.text('id')} AS id FROM ${database.table('outbox_dead')} t WHERE ${sql} AND t.id > ${idText('after', after ?? '0')} ORDER BY t.id LIMIT ${limit}`,
          params,
        );
        return rows.map(({ id }) => ({ id, cursor: id }));
      },
      change: async (ids, by) => {
        const moved = await database.transaction((x) => redriveRows(database, x, ids, by));
        if (moved.length > 0) changed();
        return moved;
      },
    },
    options,
  );
}

/** The filter that every package has, as one of dead letters. @throws InvalidArgumentError */
export function deadFilter(filter: BulkFilter): DeadFilter {
  requireFilters('outbox', filter, ['kind', 'key', 'subject', 'tenant', 'reason', 'failedAfter', 'failedBefore']);
  const { status, kind, ...rest } = filter;
  if (status !== undefined && status !== 'dead')
    throw new InvalidArgumentError(`status is ${shownValue(status)}; of the messages only those that are dead can be redriven.`);
  return { ...(rest as DeadFilter), ...(kind === undefined ? {} : { topic: kind }) };
}

const filterNames = ['topic', 'key', 'subject', 'tenant', 'id', 'reason', 'failedAfter', 'failedBefore'];

function condition(filter: DeadFilter): { readonly sql: string; readonly params: readonly unknown[] } {
  requireKnown('a filter of dead letters', filter, filterNames);
  const { topic, key, subject, tenant, reason, id } = filter;
  const { sql, params } = filterConditions(filterTexts({ topic, message_key: key, subject, tenant, reason }), {
    ...filter,
    column: 'dead_at',
  });
  if (id !== undefined) sql.push(`t.id = ${idText('id', id)}`);
  return { sql: ['1 = 1', ...sql].join(' AND '), params };
}

async function redriveRows(database: Database, sql: SqlRunner, ids: readonly string[], by: Actor): Promise<readonly string[]> {
  const dead = database.table('outbox_dead');
  const list = idList(database.family, ids);
  // Without the bodies, which are copied by the server.
  const rows = await sql.rows<DeadRow>(
    `SELECT ${database.text('id')} AS id, lane, topic, message_key, headers FROM ${dead}${database.primaryKeyHint} WHERE ${list.sql} ORDER BY ${dead}.id${forUpdate(database)}`,
    list.params,
  );
  const last = rows.at(-1);
  if (!last) return [];
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
  return rows.map(({ id }) => id);
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
export function purgeDead(database: Database, ageMs: number, signal?: AbortSignal): Promise<number> {
  return deleteOlder(database, database.table('outbox_dead'), 'dead_at', `{now} - ${ageMs}`, signal);
}
