import { Batcher, checkpoint, type Database, updateFromValues, type ValueTypes, valuesTable } from '@holdfast/core';
import type { Judgement } from './outcome.ts';

/** An attempt whose request is about to be sent. */
export interface AttemptStart {
  /** Id of the notification. */
  readonly id: string;
  readonly number: number;
  /** `resends` of the notification as it was read. */
  readonly resends: number;
  readonly trigger: string;
}

/** The end of an attempt, and the new state of its notification. */
export interface AttemptEnd {
  /** Id of the notification. */
  readonly id: string;
  readonly number: number;
  /** `resends` of the notification when the attempt started. If a person has had it sent again since, it is due again at once. */
  readonly resends: number;
  readonly judgement: Judgement;
  readonly state: 'PENDING' | 'DELIVERED' | 'EXHAUSTED' | 'GONE';
  /** Time until the next attempt, if the notification stays PENDING. */
  readonly delayMs: number | undefined;
  readonly reason: string | undefined;
}

/**
 * What became of the end of an attempt: `resent` if it counts, and a person had the notification sent again while the attempt was under way;
 * `refused` if the notification has changed otherwise.
 */
export type EndWritten = 'counted' | 'resent' | 'refused';

/** An attempt that is not made: its notification is cancelled or postponed. It does not count. */
export interface SkippedAttempt {
  /** Id of the notification. */
  readonly id: string;
  /** Number of the attempt that is not made. */
  readonly number: number;
  readonly resends: number;
  readonly state: 'PENDING' | 'CANCELLED';
  readonly delayMs: number | undefined;
  readonly reason: string | undefined;
}

const startTypes = { id: 'id', n: 'integer', again: 'integer', by_whom: 'text' } satisfies ValueTypes;
const endTypes = {
  rid: 'id',
  n: 'integer',
  again: 'integer',
  new_state: 'text',
  delay: 'integer',
  why: 'text',
  code: 'integer',
  result: 'text',
  error: 'text',
  address: 'text',
  took: 'integer',
  back: 'text',
} satisfies ValueTypes;

/**
 * Attempts as rows: a row is inserted before the request is sent, and completed with its result. The number of an attempt is also the
 * version of its notification. An attempt may start if its notification is pending and has had `number - 1` attempts; its row is unique by
 * (notification, number); and its end is accepted under the same condition. So only one worker sends a given number, and a late result of
 * a worker that has lost the endpoint changes nothing.
 *
 * `resends` tells whether a person asked for another attempt before this one started, or after. Before: it starts only if it knows of that.
 * After: its end makes the notification due at once, whatever its result.
 */
export class AttemptLog {
  readonly #database: Database;
  readonly #starts: Batcher<AttemptStart, boolean>;
  readonly #ends: Batcher<AttemptEnd, EndWritten>;
  readonly #skips: Batcher<SkippedAttempt, boolean>;

  constructor(database: Database) {
    this.#database = database;
    this.#starts = new Batcher({ run: (starts) => this.#insertStarts(starts), calls: 3 });
    this.#ends = new Batcher({ run: (ends) => this.#writeEnds(ends) });
    this.#skips = new Batcher({ run: (skips) => this.#writeSkips(skips) });
  }

  /** Records that an attempt starts. Resolves with `false` if this worker must not make it. */
  start(start: AttemptStart): Promise<boolean> {
    return this.#starts.call(start);
  }

  /** Records the end of an attempt. */
  end(end: AttemptEnd): Promise<EndWritten> {
    return this.#ends.call(end);
  }

  /** Cancels or postpones a notification. Resolves with `false` if it was refused, since the notification has changed meanwhile. */
  skip(skipped: SkippedAttempt): Promise<boolean> {
    return this.#skips.call(skipped);
  }

  async #insertStarts(starts: readonly AttemptStart[]): Promise<readonly boolean[]> {
    const attempts = this.#database.table('notifier_attempt');
    const into = `INTO ${attempts} (notification_id, number, trigger_by, outcome, started_at)`;
    let started: readonly { readonly id: string }[];
    if (this.#database.family === 'mysql') {
      started = await this.#database.transaction(async (sql) => {
        const waiting = await this.#lockPending(sql, starts, { notStarted: true });
        const startable = starts.filter(({ id, resends }) => waiting.get(id) === resends);
        if (startable.length > 0)
          await sql.run(
            `INSERT ${into} VALUES ${startable.map(({ id, number }) => `(${id}, ${number}, ?, 'started', {now})`).join(', ')}`,
            startable.map(({ trigger }) => trigger),
          );
        return startable;
      });
    } else {
      const values = valuesTable(
        this.#database,
        startTypes,
        starts.map(({ id, number, resends, trigger }) => ({ id, n: number, again: resends, by_whom: trigger })),
      );
      // An attempt of a notification that was cancelled, resent or ended meanwhile does not start.
      const join = `${this.#database.table('notifier_notification')} t ON t.id = u.id AND t.state = 'PENDING' AND t.notify_times = u.n - 1 AND t.resends = u.again`;
      // WHERE true: SQLite would otherwise parse ON CONFLICT as the condition of the join.
      started = await this.#database.rows<{ id: string }>(
        `INSERT ${into} SELECT t.id, u.n, u.by_whom, 'started', {now} FROM ${values.sql} JOIN ${join} WHERE true ON CONFLICT DO NOTHING RETURNING ${this.#database.text('notification_id')} AS id`,
        [values.param],
      );
    }
    await checkpoint('attempt:after-start');
    const ours = new Set(started.map(({ id }) => id));
    return starts.map(({ id }) => ours.has(id));
  }

  async #writeEnds(ends: readonly AttemptEnd[]): Promise<readonly EndWritten[]> {
    await checkpoint('attempt:before-end');
    const rows = ends.map(({ id, number, resends, judgement, state, delayMs, reason }) => ({
      rid: id,
      n: number,
      again: resends,
      new_state: state,
      delay: delayMs ?? null,
      why: reason ?? null,
      code: judgement.status ?? null,
      result: judgement.outcome,
      error: judgement.errorCode ?? null,
      address: judgement.remoteAddress ?? null,
      took: judgement.durationMs,
      back: judgement.snippet ?? null,
    }));
    const accepted = await this.#database.transaction(async (sql) => {
      const ours = await this.#update(sql, rows, {
        state: unlessResent("'PENDING'", 'u.new_state'),
        notify_times: 'u.n',
        last_notified_at: '{now}',
        response_status: 'u.code',
        responded_at: 'CASE WHEN u.code IS NULL THEN t.responded_at ELSE {now} END',
        due_at: unlessResent('t.due_at', 'CASE WHEN u.delay IS NULL THEN NULL ELSE {now} + u.delay END'),
        ended_at: unlessResent('NULL', 'CASE WHEN u.delay IS NULL THEN {now} END'),
        next_trigger: unlessResent('t.next_trigger', "'auto'"),
        reason: unlessResent('NULL', 'u.why'),
      });
      const attempts = updateFromValues(this.#database, {
        table: 'notifier_attempt',
        types: endTypes,
        rows,
        on: "t.notification_id = u.rid AND t.number = u.n AND t.outcome = 'started'",
        set: {
          outcome: 'u.result',
          ended_at: '{now}',
          duration_ms: 'u.took',
          http_status: 'u.code',
          error_code: 'u.error',
          remote_address: 'u.address',
          snippet: 'u.back',
        },
      });
      await sql.run(attempts.sql, attempts.params);
      return ours;
    });
    await checkpoint('attempt:after-end');
    return ends.map(({ id, resends }) => {
      const now = accepted.get(id);
      return now === undefined ? 'refused' : now === resends ? 'counted' : 'resent';
    });
  }

  async #writeSkips(skips: readonly SkippedAttempt[]): Promise<readonly boolean[]> {
    const rows = skips.map(({ id, number, resends, state, delayMs, reason }) => ({
      rid: id,
      n: number,
      again: resends,
      new_state: state,
      delay: delayMs ?? null,
      why: reason ?? null,
    }));
    const accepted = await this.#database.transaction((sql) =>
      this.#update(sql, rows, {
        state: unlessResent("'PENDING'", 'u.new_state'),
        due_at: unlessResent('t.due_at', 'CASE WHEN u.delay IS NULL THEN NULL ELSE {now} + u.delay END'),
        ended_at: unlessResent('NULL', 'CASE WHEN u.delay IS NULL THEN {now} END'),
        reason: unlessResent('NULL', 'u.why'),
      }),
    );
    return skips.map(({ id }) => accepted.has(id));
  }

  /** Changes notifications that are pending and have had the expected number of attempts. Returns their ids, with their `resends`. */
  async #update(
    runner: Pick<Database, 'rows' | 'run'>,
    rows: Parameters<typeof valuesTable>[2],
    set: Readonly<Record<string, string>>,
  ): Promise<ReadonlyMap<string, number>> {
    const on = "t.id = u.rid AND t.state = 'PENDING' AND t.notify_times = u.n - 1";
    const id = this.#database.text('id');
    const { sql, params } = updateFromValues(this.#database, {
      table: 'notifier_notification',
      types: endTypes,
      rows,
      on,
      set,
      returning: `${id} AS id, resends`,
    });
    if (this.#database.family !== 'mysql') {
      const changed = await runner.rows<{ id: string; resends: number | string }>(sql, params);
      return new Map(changed.map((row) => [row.id, Number(row.resends)]));
    }
    const ours = await this.#lockPending(
      runner,
      rows.map(({ rid, n }) => ({ id: String(rid), number: Number(n) })),
      { notStarted: false },
    );
    if (ours.size > 0) await runner.run(sql, params);
    return ours;
  }

  /**
   * MySQL, MariaDB: locks the pending notifications with these ids, by primary key. Returns the ids of those that have had exactly
   * `number - 1` attempts, with their `resends`; with `notStarted`, only of those whose next attempt has no row yet. The statement has no join to a table of
   * values: MySQL can't lock one, and MariaDB has no `FOR UPDATE OF t`.
   */
  async #lockPending(
    runner: Pick<Database, 'rows'>,
    attempts: readonly { readonly id: string; readonly number: number }[],
    { notStarted }: { readonly notStarted: boolean },
  ): Promise<ReadonlyMap<string, number>> {
    const join = notStarted
      ? ` LEFT JOIN ${this.#database.table('notifier_attempt')} a ON a.notification_id = t.id AND a.number = t.notify_times + 1`
      : '';
    const ids = attempts.map(({ id }) => BigInt(id)).join(', ');
    const rows = await runner.rows<{ id: string; notify_times: number; resends: number }>(
      `SELECT CAST(t.id AS CHAR) AS id, t.notify_times, t.resends FROM ${this.#database.table('notifier_notification')} t${this.#database.primaryKeyHint}${join} WHERE ${notStarted ? 'a.number IS NULL AND ' : ''}t.id IN (${ids}) AND t.state = 'PENDING' FOR UPDATE`,
    );
    const locked = new Map(rows.map((row) => [row.id, row]));
    return new Map(
      attempts.flatMap(({ id, number }) => {
        const row = locked.get(id);
        return row && Number(row.notify_times) === number - 1 ? [[id, Number(row.resends)]] : [];
      }),
    );
  }
}

/** The value of a column after an attempt: as its end has it, unless a person has had the notification sent again meanwhile. */
function unlessResent(resent: string, otherwise: string): string {
  return `CASE WHEN t.resends <> u.again THEN ${resent} ELSE ${otherwise} END`;
}
