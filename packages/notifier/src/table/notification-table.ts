import { type Database, insertNew, Once, type SqlRunner, skipLocked, TransientDatabaseError, valuesTable } from '@holdfast/core';
import { shortHash, urlTarget } from '../trigger/target.ts';

/** The result of a trigger. */
export interface Triggered {
  /** Id of the notification; for a duplicate, the id of the first notification. */
  readonly id: string;
  /** True if the event was triggered before. Then nothing was written. */
  readonly duplicate: boolean;
  /** True if the body of a duplicate differs from that of the first notification. The first body is kept. */
  readonly conflict: boolean;
}

/** A notification to be inserted. */
export interface NewNotification {
  readonly tenant: string;
  readonly subject_id: string;
  readonly status: string;
  readonly sequence: number;
  /** See `target.ts`. */
  readonly target: string;
  readonly supersede: boolean;
  readonly origin: string;
  readonly url: string;
  readonly key_ref: string | null;
  readonly sealed_key: string | null;
  readonly headers: string | null;
  readonly params: string;
  readonly content_type: string;
  readonly webhook_id: string;
  readonly traceparent: string | null;
}

/** An attempt, as operators see it. */
export interface AttemptView {
  readonly number: number;
  /** The cause of the attempt: the schedule, the compensation sweep, a person, or a probe. */
  readonly trigger: 'auto' | 'compensate' | 'manual' | 'test';
  readonly outcome: string;
  /** In ms since 1970, by the database's clock. */
  readonly startedAt: number;
  readonly endedAt: number | null;
  readonly durationMs: number | null;
  readonly httpStatus: number | null;
  readonly errorCode: string | null;
  readonly remoteAddress: string | null;
  readonly snippet: string | null;
}

const onceScope = 'notifier';
/** Rows that a purge reads at a time. It reads their bodies, of up to 256 KiB. */
const purgedAtOnce = 50;
// MySQL can't lock a table of values, so the lock names `n`. MariaDB does not support FOR SHARE OF.
const sharedLock = { mysql: ' FOR SHARE OF n', mariadb: ' LOCK IN SHARE MODE', postgres: '', sqlite: '' } as const;
const columns = [
  'endpoint_id',
  'tenant',
  'subject_id',
  'status',
  'sequence',
  'target',
  'supersede',
  'webhook_id',
  'url',
  'content_type',
  'key_ref',
  'sealed_key',
  'headers',
  'params',
  'traceparent',
] as const;

const eventTypes = { tenant: 'text', subject_id: 'text', status: 'text', sequence: 'integer', target: 'text', url: 'text' } as const;
const columnTypes = {
  endpoint_id: 'id',
  ...eventTypes,
  webhook_id: 'text',
  content_type: 'text',
  key_ref: 'text',
  sealed_key: 'text',
  headers: 'text',
  params: 'text',
  traceparent: 'text',
} as const;

/** Inserts notifications, each event once, and deletes them when they are old. */
export class NotificationTable {
  readonly #database: Database;
  readonly #name: string;
  readonly #once: Once;

  constructor(database: Database) {
    this.#database = database;
    this.#name = database.table('notifier_notification');
    this.#once = new Once(database);
  }

  /**
   * Inserts a notification that is due at once, and a wake row for its endpoint. If the same event is triggered concurrently, the unique
   * index (tenant, subject_id, status, sequence, target) admits one insert; the others wait for its commit.
   */
  async insert(sql: SqlRunner, endpointId: string, notification: NewNotification): Promise<Triggered> {
    const values = [
      endpointId,
      notification.tenant,
      notification.subject_id,
      notification.status,
      notification.sequence,
      notification.target,
      notification.supersede ? 1 : 0,
      notification.webhook_id,
      notification.url,
      notification.content_type,
      notification.key_ref,
      notification.sealed_key,
      notification.headers,
      notification.params,
      notification.traceparent,
    ];
    const mysql = this.#database.family === 'mysql';
    const marks = values.map(() => '?').join(', ');
    const inserted = await sql.run(
      insertNew(this.#database, `INTO ${this.#name} (${columns.join(', ')}, created_at, due_at) VALUES (${marks}, {now}, {now})`),
      values,
    );
    // A locking read on MySQL and MariaDB: the caller's snapshot may be older than the row.
    const found = await sql.rows<{ id: string; target: string; url: string; params: string | null }>(
      `SELECT ${this.#database.text('id')} AS id, target, url, ${inserted > 0 ? "CASE WHEN target = '' THEN params END" : 'params'} AS params FROM ${this.#name} WHERE tenant = ? AND subject_id = ? AND status = ? AND sequence = ? AND target IN (?, '')${mysql ? ' LOCK IN SHARE MODE' : ''}`,
      [notification.tenant, notification.subject_id, notification.status, notification.sequence, notification.target],
    );
    const row = found.find(({ target }) => target === notification.target);
    if (!row) throw rowVanished();
    if (inserted === 0) return { id: row.id, duplicate: true, conflict: row.params !== notification.params };
    const older = found.find(({ target, url }) => target === '' && url === notification.url);
    if (older) {
      await sql.run(`DELETE FROM ${this.#name} WHERE id = ${row.id}`);
      return { id: older.id, duplicate: true, conflict: older.params !== notification.params };
    }
    // The transaction that deletes an old row records its event here, so an event is always found in one of the two.
    const gone = await this.#once.findAny(sql, onceScope, eventKeys(notification));
    if (gone !== undefined) {
      await sql.run(`DELETE FROM ${this.#name} WHERE id = ${row.id}`);
      const [id = '', hash] = gone.split(' ');
      return { id, duplicate: true, conflict: hash !== shortHash(notification.params) };
    }
    if (notification.supersede) await this.#supersede(sql, row.id, notification);
    await sql.run(`INSERT INTO ${this.#database.table('notifier_wake')} (endpoint_id) VALUES (${endpointId})`);
    return { id: row.id, duplicate: false, conflict: false };
  }

  /**
   * Inserts many notifications in a few statements. Rows are inserted in the order of their events, so that two transactions with the same
   * events can't deadlock.
   */
  async insertMany(
    sql: SqlRunner,
    items: readonly { readonly endpointId: string; readonly notification: NewNotification }[],
  ): Promise<readonly Triggered[]> {
    const rows = items.map(({ endpointId, notification }) => ({ ...notification, endpoint_id: endpointId, supersede: 0 }));
    const types = { ...columnTypes, supersede: 'integer' } as const;
    const inserting = valuesTable(
      this.#database,
      types,
      rows.toSorted((a, b) => (eventText(a) < eventText(b) ? -1 : 1)),
    );
    const values = columns.map((name) => `u.${name}`).join(', ');
    // SQLite needs the WHERE, or it reads ON as the start of a join condition.
    const into = `INTO ${this.#name} (${columns.join(', ')}, created_at, due_at) SELECT ${values}, {now}, {now} FROM ${inserting.sql} WHERE 1 = 1`;
    await sql.run(insertNew(this.#database, into), [inserting.param]);
    const asking = valuesTable(this.#database, eventTypes, rows);
    const found = await sql.rows<{ id: string; webhook_id: string; params: string } & EventOf>(
      `SELECT ${this.#database.text('n.id')} AS id, n.webhook_id, n.tenant, n.subject_id, n.status, n.sequence, n.target, n.url, n.params FROM ${asking.sql} JOIN ${this.#name} n ON n.tenant = u.tenant AND n.subject_id = u.subject_id AND n.status = u.status AND n.sequence = u.sequence AND (n.target = u.target OR (n.target = '' AND n.url = u.url))${sharedLock[this.#database.dialect]}`,
      [asking.param],
    );
    const byEvent = new Map(found.map((row) => [row.target === '' ? olderText(row) : eventText(row), row]));
    const gone = await this.#once.findMany(sql, onceScope, rows.flatMap(eventKeys));
    const triggered = rows.map((notification): Triggered & { readonly stale?: string } => {
      const row = byEvent.get(eventText(notification));
      if (!row) throw rowVanished();
      if (row.webhook_id !== notification.webhook_id) return { id: row.id, duplicate: true, conflict: row.params !== notification.params };
      const older = byEvent.get(olderText(notification));
      if (older) return { id: older.id, duplicate: true, conflict: older.params !== notification.params, stale: row.id };
      const before = eventKeys(notification)
        .map((key) => gone.get(key))
        .find((ref) => ref !== undefined);
      if (before === undefined) return { id: row.id, duplicate: false, conflict: false };
      const [id = '', hash] = before.split(' ');
      return { id, duplicate: true, conflict: hash !== shortHash(notification.params), stale: row.id };
    });
    const stale = triggered.flatMap(({ stale: id }) => id ?? []);
    if (stale.length > 0) await sql.run(`${this.#database.deleteByPrimaryKey(this.#name)} WHERE id IN (${stale.join(', ')})`);
    const woken = new Set(items.flatMap(({ endpointId }, i) => (triggered[i]?.duplicate ? [] : [endpointId])));
    if (woken.size > 0)
      await sql.run(
        `INSERT INTO ${this.#database.table('notifier_wake')} (endpoint_id) VALUES ${[...woken].map((id) => `(${id})`).join(', ')}`,
      );
    return triggered.map(({ id, duplicate, conflict }) => ({ id, duplicate, conflict }));
  }

  /** Cancels pending notifications of the subject to this target with a lower sequence; cancels this one if a higher sequence exists. */
  async #supersede(sql: SqlRunner, id: string, { tenant, subject_id, target, sequence }: NewNotification): Promise<void> {
    const of = `tenant = ? AND subject_id = ? AND target IN (?, '')`;
    const params = [tenant, subject_id, target, sequence];
    const end = "state = 'CANCELLED', reason = 'superseded', due_at = NULL, ended_at = {now}";
    await sql.run(`UPDATE ${this.#name} SET ${end} WHERE ${of} AND state = 'PENDING' AND sequence < ?`, params);
    const later = await sql.rows(`SELECT 1 AS one FROM ${this.#name} WHERE ${of} AND sequence > ? LIMIT 1`, params);
    if (later.length > 0) await sql.run(`UPDATE ${this.#name} SET ${end} WHERE id = ${id}`);
  }

  /**
   * Returns `true` if a higher sequence of the subject exists for the same target. Needed at each attempt: two concurrent triggers don't see
   * each other's row.
   */
  async superseded({
    tenant,
    subjectId,
    target,
    sequence,
  }: {
    readonly tenant: string;
    readonly subjectId: string;
    readonly target: string;
    readonly sequence: number;
  }): Promise<boolean> {
    const later = await this.#database.rows(
      `SELECT 1 AS one FROM ${this.#name} WHERE tenant = ? AND subject_id = ? AND sequence > ?${target === '' ? '' : " AND target IN (?, '')"} LIMIT 1`,
      [tenant, subjectId, sequence, ...(target === '' ? [] : [target])],
    );
    return later.length > 0;
  }

  /**
   * Deletes notifications that ended in one of these states longer ago than `ageMs`, with their attempts. Records their events for
   * `rememberMs`, so that a late trigger is still a duplicate. Returns the number of deleted notifications.
   */
  async purge(states: readonly string[], ageMs: number, rememberMs: number, signal?: AbortSignal): Promise<number> {
    await this.#once.purge(signal);
    let total = 0;
    for (const state of states) total += await this.#purgeState(state, ageMs, rememberMs, signal);
    return total;
  }

  /** Index: `(state, ended_at)`. */
  async #purgeState(state: string, ageMs: number, rememberMs: number, signal: AbortSignal | undefined): Promise<number> {
    const old = `state = '${state}' AND ended_at < {now} - ${Math.trunc(ageMs)}`;
    for (let total = 0; ; ) {
      if (signal?.aborted) return total;
      const gone = await this.#database.transaction(async (sql) => {
        const lock = skipLocked(this.#database);
        const rows = await sql.rows<{ id: string; params: string } & EventOf>(
          `SELECT ${this.#database.text('id')} AS id, tenant, subject_id, status, sequence, target, url, params FROM ${this.#name} WHERE ${old} ORDER BY ended_at LIMIT ${purgedAtOnce}${lock}`,
        );
        if (rows.length === 0) return 0;
        const ids = rows.map(({ id }) => id).join(', ');
        await sql.run(
          insertNew(
            this.#database,
            `INTO ${this.#database.table('holdfast_once')} (scope, once_key, ref, expires_at) VALUES ${rows.map(() => `('${onceScope}', ?, ?, {now} + ${Math.trunc(rememberMs)})`).join(', ')}`,
          ),
          rows.flatMap((row) => [eventKey(row), `${row.id} ${shortHash(row.params)}`]),
        );
        await sql.run(`DELETE FROM ${this.#database.table('notifier_attempt')} WHERE notification_id IN (${ids})`);
        return sql.run(`${this.#database.deleteByPrimaryKey(this.#name)} WHERE id IN (${ids})`);
      });
      total += gone;
      if (gone === 0) return total;
    }
  }
}

type EventOf = Pick<NewNotification, 'tenant' | 'subject_id' | 'status' | 'sequence' | 'target' | 'url'>;

function eventText(event: Omit<EventOf, 'url'>): string {
  return JSON.stringify([event.tenant, event.subject_id, event.status, Number(event.sequence), event.target]);
}

/** The event as a row of an earlier version has it, without a target. */
function olderText({ url, ...event }: EventOf): string {
  return eventText({ ...event, target: `url ${url}` });
}

/** The key under which an event is recorded: a hash, since the event may be longer than a key may be. */
function eventKey(row: EventOf): string {
  return shortHash(eventText({ ...row, target: row.target === '' ? urlTarget(row.url) : row.target }));
}

/** The keys under which an event may be recorded: by this version, and by earlier ones, which did not record where it was sent. */
function eventKeys(row: EventOf): readonly string[] {
  return [eventKey(row), shortHash(JSON.stringify([row.tenant, row.subject_id, row.status, Number(row.sequence)]))];
}

function rowVanished(): TransientDatabaseError {
  return new TransientDatabaseError(
    'The event exists, but its row was deleted before it could be read. Run the transaction again.',
    undefined,
  );
}
