import { Batcher, type Database } from '@holdfast/core';
import type { DueRow } from '../table/due-row.ts';

/** A query for the next due notifications of an endpoint after a position. */
export interface DueQuery {
  readonly endpointId: string;
  readonly afterDueAt: string;
  readonly afterId: string;
  readonly limit: number;
}

type DatabaseRow = Readonly<Record<string, string | number | null>>;

const columns =
  'n.notify_times, n.next_trigger, n.tenant, n.subject_id, n.status, n.sequence, n.supersede, n.webhook_id, n.url, n.content_type, n.key_ref, n.sealed_key, n.headers, n.target, n.resends';
/** Longer bodies are read when they are sent, so that the rows in memory take a few MiB at most. */
const maxInlineBytes = 4_096;

/**
 * Reads the due notifications of several endpoints in one statement, by due time within each endpoint. Takes no lock: only the worker that
 * holds an endpoint reads, and each attempt is checked again when it starts.
 *
 * The endpoints' wake rows (`notifier_wake`) are deleted before the read. So the read sees every notification whose wake row was
 * deleted, and a wake row that commits later stays for the next read.
 */
export class DueReader {
  readonly #database: Database;
  readonly #onNow: (now: number) => void;
  readonly #reads: Batcher<DueQuery, readonly DueRow[]>;
  readonly #nextDue: Batcher<string, number | undefined>;

  /** @param onNow called with the database's time, in ms since 1970, after a read */
  constructor(database: Database, onNow: (now: number) => void) {
    this.#database = database;
    this.#onNow = onNow;
    this.#reads = new Batcher({ run: (queries) => this.#readAll(queries), size: 100 });
    this.#nextDue = new Batcher({ run: (ids) => this.#nextDueOf(ids), size: 100 });
  }

  read(query: DueQuery): Promise<readonly DueRow[]> {
    return this.#reads.call(query);
  }

  /** Reads the body of a row that came without it. */
  async body(id: string): Promise<string> {
    const [row] = await this.#database.rows<{ params: string }>(
      `SELECT params FROM ${this.#database.table('notifier_notification')} WHERE id = ${id}`,
    );
    return row?.params ?? '';
  }

  /** Returns the ms until the endpoint's next notification is due (0 or less: it is due), or `undefined` if none is pending. */
  nextDueMs(endpointId: string): Promise<number | undefined> {
    return this.#nextDue.call(endpointId);
  }

  async #readAll(queries: readonly DueQuery[]): Promise<readonly (readonly DueRow[])[]> {
    await this.#clearWakes(queries.map(({ endpointId }) => endpointId));
    const n = this.#database.table('notifier_notification');
    const a = this.#database.table('notifier_attempt');
    const text = (column: string): string => this.#database.text(column);
    const length = this.#database.family === 'sqlite' ? 'length' : 'octet_length';
    const params = `CASE WHEN ${length}(n.params) <= ${maxInlineBytes} THEN n.params END AS params`;
    const selected = `${text('n.id')} AS id, ${text('n.endpoint_id')} AS endpoint_id, ${text('n.due_at')} AS due_at, ${columns}, ${params}`;
    const orphans = `LEFT JOIN ${a} a ON a.notification_id = r.row_id AND a.number = r.notify_times + 1`;
    const head = `SELECT r.*, CASE WHEN a.number IS NULL THEN 0 ELSE 1 END AS orphan, a.trigger_by AS started_by, {now} AS now_ms FROM`;
    let records: DatabaseRow[];
    if (this.#database.family === 'postgres') {
      const list = (values: readonly (string | number)[]): string => `{${values.join(',')}}`;
      records = await this.#database.rows(
        `${head} unnest(?::bigint[], ?::bigint[], ?::bigint[], ?::integer[]) AS c(endpoint, due, id, most) CROSS JOIN LATERAL (SELECT ${selected}, n.id AS row_id FROM ${n} n WHERE n.endpoint_id = c.endpoint AND n.state = 'PENDING' AND (n.due_at, n.id) > (c.due, c.id) AND n.due_at <= {now} ORDER BY n.due_at, n.id LIMIT c.most) r ${orphans}`,
        [
          list(queries.map(({ endpointId }) => endpointId)),
          list(queries.map(({ afterDueAt }) => afterDueAt)),
          list(queries.map(({ afterId }) => afterId)),
          list(queries.map(({ limit }) => limit)),
        ],
      );
    } else {
      // SQLite and MariaDB have no lateral join, and MySQL and MariaDB use no index for a comparison of pairs.
      const each = queries.map(
        ({ endpointId, afterDueAt, afterId, limit }) =>
          `SELECT * FROM (SELECT ${selected}, n.id AS row_id FROM ${n} n WHERE n.endpoint_id = ${endpointId} AND n.state = 'PENDING' AND n.due_at >= ${afterDueAt} AND (n.due_at > ${afterDueAt} OR n.id > ${afterId}) AND n.due_at <= {now} ORDER BY n.due_at, n.id LIMIT ${limit}) e${endpointId}`,
      );
      records = await this.#database.rows(`${head} (${each.join(' UNION ALL ')}) r ${orphans}`);
    }
    const [first] = records;
    if (first) this.#onNow(Number(first.now_ms));
    const byEndpoint = new Map<string, DueRow[]>(queries.map(({ endpointId }) => [endpointId, []]));
    for (const record of records) byEndpoint.get(String(record.endpoint_id))?.push(dueRow(record));
    return queries.map(({ endpointId }) => (byEndpoint.get(endpointId) ?? []).sort(byDueTime));
  }

  async #clearWakes(endpointIds: readonly string[]): Promise<void> {
    const table = this.#database.table('notifier_wake');
    const ids = endpointIds.join(', ');
    if (this.#database.family !== 'mysql') {
      await this.#database.run(`DELETE FROM ${table} WHERE endpoint_id IN (${ids})`);
      return;
    }
    // Reads the ids first: a DELETE by endpoint would wait for every open transaction that has inserted a wake row.
    const rows = await this.#database.rows<{ id: string }>(
      `SELECT CAST(id AS CHAR) AS id FROM ${table} WHERE endpoint_id IN (${ids}) LIMIT 2000`,
    );
    if (rows.length > 0)
      await this.#database.run(`${this.#database.deleteByPrimaryKey(table)} WHERE id IN (${rows.map(({ id }) => id).join(', ')})`);
  }

  async #nextDueOf(ids: readonly string[]): Promise<readonly (number | undefined)[]> {
    const n = this.#database.table('notifier_notification');
    const each = ids.map(
      (id) =>
        `SELECT '${id}' AS id, (SELECT due_at FROM ${n} WHERE endpoint_id = ${id} AND state = 'PENDING' ORDER BY due_at LIMIT 1) - {now} AS ms`,
    );
    const rows = await this.#database.rows<{ id: string; ms: string | number | null }>(each.join(' UNION ALL '));
    const found = new Map(rows.map(({ id, ms }) => [id, ms === null ? undefined : Number(ms)]));
    return ids.map((id) => found.get(id));
  }
}

function dueRow(record: DatabaseRow): DueRow {
  const text = (name: string): string | null => (record[name] === null || record[name] === undefined ? null : String(record[name]));
  return {
    id: String(record.id),
    endpointId: String(record.endpoint_id),
    dueAt: String(record.due_at),
    notifyTimes: Number(record.notify_times),
    trigger: String(record.next_trigger),
    tenant: String(record.tenant),
    subjectId: String(record.subject_id),
    status: String(record.status),
    sequence: Number(record.sequence),
    supersede: Number(record.supersede) === 1,
    webhookId: String(record.webhook_id),
    url: String(record.url),
    contentType: String(record.content_type),
    keyRef: text('key_ref'),
    sealedKey: text('sealed_key'),
    headers: text('headers'),
    params: text('params'),
    target: String(record.target),
    resends: Number(record.resends),
    orphan: Number(record.orphan) === 1,
    resent: record.next_trigger === 'manual' && record.started_by !== null && record.started_by !== 'manual',
  };
}

function byDueTime(one: DueRow, other: DueRow): number {
  return Number(BigInt(one.dueAt) - BigInt(other.dueAt)) || Number(BigInt(one.id) - BigInt(other.id));
}
