import { createHash } from 'node:crypto';
import { type Database, type Duration, durationMs, Once, type SqlRunner, TransientDatabaseError, valuesTable } from '@holdfast/core';

/** What a trigger came to. */
export interface Triggered {
  /** Of the notification: the first one's, if the event was triggered before. */
  readonly id: string;
  /** Whether the event was triggered before; then nothing was written. */
  readonly duplicate: boolean;
  /** A duplicate whose body differs. The first body stays. */
  readonly conflict: boolean;
}

/** A notification as it is inserted. */
export interface NewNotification {
  readonly tenant: string;
  readonly subject_id: string;
  readonly status: string;
  readonly sequence: number;
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

/** One attempt, as it is shown. */
export interface AttemptView {
  readonly number: number;
  /** What it was made for: its schedule, the compensation sweep, a person. */
  readonly trigger: 'auto' | 'compensate' | 'manual' | 'test';
  readonly outcome: string;
  /** Ms since 1970 by the database's clock. */
  readonly startedAt: number;
  readonly endedAt: number | null;
  readonly durationMs: number | null;
  readonly httpStatus: number | null;
  readonly errorCode: string | null;
  readonly remoteAddress: string | null;
  readonly snippet: string | null;
}

const onceScope = 'notifier';
// MySQL can't lock a table of values, so the lock must name `n`; MariaDB does not know FOR SHARE OF.
const sharedLock = { mysql: ' FOR SHARE OF n', mariadb: ' LOCK IN SHARE MODE', postgres: '', sqlite: '' } as const;
const columns = [
  'endpoint_id',
  'tenant',
  'subject_id',
  'status',
  'sequence',
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

const eventTypes = { tenant: 'text', subject_id: 'text', status: 'text', sequence: 'integer' } as const;
const columnTypes = {
  endpoint_id: 'id',
  ...eventTypes,
  webhook_id: 'text',
  url: 'text',
  content_type: 'text',
  key_ref: 'text',
  sealed_key: 'text',
  headers: 'text',
  params: 'text',
  traceparent: 'text',
} as const;

/** Writes notifications, each event once. */
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
   * Inserts a notification, due at once, and the sign that its endpoint has something to send. Of events that are triggered at the
   * same time the unique index (tenant, subject_id, status, sequence) lets one in; the others wait for its commit.
   */
  async insert(sql: SqlRunner, endpointId: string, one: NewNotification): Promise<Triggered> {
    const values = [
      endpointId,
      one.tenant,
      one.subject_id,
      one.status,
      one.sequence,
      one.supersede ? 1 : 0,
      one.webhook_id,
      one.url,
      one.content_type,
      one.key_ref,
      one.sealed_key,
      one.headers,
      one.params,
      one.traceparent,
    ];
    const mysql = this.#database.family === 'mysql';
    const inserted = await sql.run(
      `INSERT ${mysql ? 'IGNORE ' : ''}INTO ${this.#name} (${columns.join(', ')}, created_at, due_at) VALUES (${values.map(() => '?').join(', ')}, {now}, {now})${mysql ? '' : ' ON CONFLICT DO NOTHING'}`,
      values,
    );
    const event = [one.tenant, one.subject_id, one.status, one.sequence];
    // On MySQL and MariaDB a locking read, since the caller's snapshot may be older than the row.
    const [row] = await sql.rows<{ id: string; params: string | null }>(
      `SELECT ${this.#database.text('id')} AS id, ${inserted > 0 ? 'NULL' : 'params'} AS params FROM ${this.#name} WHERE tenant = ? AND subject_id = ? AND status = ? AND sequence = ?${mysql ? ' LOCK IN SHARE MODE' : ''}`,
      event,
    );
    if (!row)
      throw new TransientDatabaseError(
        'An event is there and could not be read: its row went at this moment. Run the transaction again.',
        undefined,
      );
    if (inserted === 0) return { id: row.id, duplicate: true, conflict: row.params !== one.params };
    // A row that retention has deleted left its event here, in the transaction that deleted it: it is seen once the row is not.
    const gone = await this.#once.find(sql, onceScope, eventKey(event));
    if (gone !== undefined) {
      await sql.run(`DELETE FROM ${this.#name} WHERE id = ${row.id}`);
      const [id = '', hash] = gone.split(' ');
      return { id, duplicate: true, conflict: hash !== bodyHash(one.params) };
    }
    if (one.supersede) await this.#supersede(sql, row.id, one);
    await sql.run(`INSERT INTO ${this.#database.table('notifier_wake')} (endpoint_id) VALUES (${endpointId})`);
    return { id: row.id, duplicate: false, conflict: false };
  }

  /**
   * The same of many events, in a handful of statements. In the order of events: two transactions with the same ones wait for each other
   * one way only.
   */
  async insertMany(
    sql: SqlRunner,
    items: readonly { readonly endpointId: string; readonly one: NewNotification }[],
  ): Promise<readonly Triggered[]> {
    const mysql = this.#database.family === 'mysql';
    const rows = items.map(({ endpointId, one }) => ({ ...one, endpoint_id: endpointId, supersede: 0 }));
    const types = { ...columnTypes, supersede: 'integer' } as const;
    const inserting = valuesTable(
      this.#database,
      types,
      rows.toSorted((a, b) => (eventText(a) < eventText(b) ? -1 : 1)),
    );
    await sql.run(
      `INSERT ${mysql ? 'IGNORE ' : ''}INTO ${this.#name} (${columns.join(', ')}, created_at, due_at) SELECT ${columns.map((name) => `u.${name}`).join(', ')}, {now}, {now} FROM ${inserting.sql}${mysql ? '' : ' WHERE 1 = 1 ON CONFLICT DO NOTHING'}`,
      [inserting.param],
    );
    const asking = valuesTable(this.#database, eventTypes, rows);
    const found = await sql.rows<{ id: string; webhook_id: string; event: string; params: string }>(
      `SELECT ${this.#database.text('n.id')} AS id, n.webhook_id, n.tenant, n.subject_id, n.status, n.sequence, n.params FROM ${asking.sql} JOIN ${this.#name} n ON n.tenant = u.tenant AND n.subject_id = u.subject_id AND n.status = u.status AND n.sequence = u.sequence${sharedLock[this.#database.dialect]}`,
      [asking.param],
    );
    const byEvent = new Map(found.map((row) => [eventText(row as unknown as NewNotification), row]));
    const gone = await this.#once.findMany(
      sql,
      onceScope,
      rows.map((row) => eventKey(eventOf(row))),
    );
    const triggered = rows.map((one): Triggered & { readonly stale?: string } => {
      const row = byEvent.get(eventText(one));
      if (!row)
        throw new TransientDatabaseError(
          'An event is there and could not be read: its row went at this moment. Run the transaction again.',
          undefined,
        );
      if (row.webhook_id !== one.webhook_id) return { id: row.id, duplicate: true, conflict: row.params !== one.params };
      const before = gone.get(eventKey(eventOf(one)));
      if (before === undefined) return { id: row.id, duplicate: false, conflict: false };
      const [id = '', hash] = before.split(' ');
      return { id, duplicate: true, conflict: hash !== bodyHash(one.params), stale: row.id };
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

  /** Ends what is pending of the subject with lower sequences; and this one, if a later one is there. */
  async #supersede(sql: SqlRunner, id: string, one: NewNotification): Promise<void> {
    const of = `tenant = ? AND subject_id = ?`;
    const end = "state = 'CANCELLED', reason = 'superseded', due_at = NULL, ended_at = {now}";
    await sql.run(`UPDATE ${this.#name} SET ${end} WHERE ${of} AND state = 'PENDING' AND sequence < ?`, [
      one.tenant,
      one.subject_id,
      one.sequence,
    ]);
    const later = await sql.rows(`SELECT 1 AS one FROM ${this.#name} WHERE ${of} AND sequence > ? LIMIT 1`, [
      one.tenant,
      one.subject_id,
      one.sequence,
    ]);
    if (later.length > 0) await sql.run(`UPDATE ${this.#name} SET ${end} WHERE id = ${id}`);
  }

  /** Whether a later sequence of the subject is there: triggers of both may have run at once, neither seeing the other. */
  async superseded(one: { readonly tenant: string; readonly subjectId: string; readonly sequence: number }): Promise<boolean> {
    const later = await this.#database.rows(
      `SELECT 1 AS one FROM ${this.#name} WHERE tenant = ? AND subject_id = ? AND sequence > ? LIMIT 1`,
      [one.tenant, one.subjectId, one.sequence],
    );
    return later.length > 0;
  }

  /**
   * Deletes notifications that ended longer ago than `age`, with their attempts. Their events are remembered for `remember` more, so
   * that a trigger that comes late is still a duplicate. Returns how many went.
   */
  async purge(age: Duration, remember: Duration): Promise<number> {
    await this.#once.purge();
    const [ageMs, rememberMs] = [durationMs(age, 'age'), durationMs(remember, 'remember')];
    const old = `state <> 'PENDING' AND ended_at < {now} - ${Math.trunc(ageMs)}`;
    for (let total = 0; ; ) {
      const gone = await this.#database.transaction(async (sql) => {
        const lock = this.#database.family === 'sqlite' ? '' : ' FOR UPDATE SKIP LOCKED';
        const rows = await sql.rows<{ id: string; tenant: string; subject_id: string; status: string; sequence: number; params: string }>(
          `SELECT ${this.#database.text('id')} AS id, tenant, subject_id, status, sequence, params FROM ${this.#name} WHERE ${old} ORDER BY ended_at LIMIT 200${lock}`,
        );
        if (rows.length === 0) return 0;
        const ids = rows.map(({ id }) => id).join(', ');
        await sql.run(
          `INSERT INTO ${this.#database.table('holdfast_once')} (scope, once_key, ref, expires_at) VALUES ${rows.map(() => `('${onceScope}', ?, ?, {now} + ${Math.trunc(rememberMs)})`).join(', ')}`,
          rows.flatMap((row) => [
            eventKey([row.tenant, row.subject_id, row.status, Number(row.sequence)]),
            `${row.id} ${bodyHash(row.params)}`,
          ]),
        );
        await sql.run(`DELETE FROM ${this.#database.table('notifier_attempt')} WHERE notification_id IN (${ids})`);
        return sql.run(`${this.#database.deleteByPrimaryKey(this.#name)} WHERE id IN (${ids})`);
      });
      total += gone;
      if (gone === 0) return total;
    }
  }
}

/** An event as a key: its hash, since its parts may be longer than a key. */
function eventOf(one: Pick<NewNotification, 'tenant' | 'subject_id' | 'status' | 'sequence'>): readonly (string | number)[] {
  return [one.tenant, one.subject_id, one.status, Number(one.sequence)];
}

function eventText(one: Pick<NewNotification, 'tenant' | 'subject_id' | 'status' | 'sequence'>): string {
  return JSON.stringify(eventOf(one));
}

function eventKey(event: readonly (string | number)[]): string {
  return bodyHash(JSON.stringify(event));
}

/** What two bodies of one event are compared by. */
function bodyHash(params: string): string {
  return createHash('sha256').update(params).digest('base64url').slice(0, 22);
}
