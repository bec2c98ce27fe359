import {
  checkMigrated,
  coreSchema,
  Database,
  durationMs,
  type EventSource,
  Events,
  guardLogger,
  InvalidArgumentError,
  type Lease,
  LeaseTable,
  type Logger,
  monotonicMs,
  notAPromise,
  shownValue,
  uuidv7,
  wait,
  wholeNumber,
} from '@holdfast/core';
import type { Knex } from 'knex';
import { parseDatabases } from '../route/parse-databases.ts';
import type { Shard } from '../route/shard.ts';
import { scanSchema } from '../schema.ts';
import { Pace } from '../throttle/pace.ts';
import { type Throttle, throttleList } from '../throttle/throttle.ts';
import { BatchSize } from '../walk/batch-size.ts';
import { FailureWalk } from '../walk/failure-walk.ts';
import { isOutage } from '../walk/hand-over.ts';
import type { ScanProgress } from '../walk/progress.ts';
import { ScanStore } from '../walk/scan-store.ts';
import type { ScanUnit } from '../walk/scan-unit.ts';
import type { KeyColumn } from '../walk/table-shape.ts';
import { UnitWalk } from '../walk/unit-walk.ts';
import type { RedriveResult, RunOptions, ScanEvents, ScanNow, ScanOptions, ScanResult } from './scan-options.ts';
import { fitsColumn, memberScope } from './scope-name.ts';
import { Share } from './share.ts';

/** The names of the scans on each state database. */
const namesInUse = new WeakMap<object, Set<string>>();

/**
 * Walks all tables of a topology in passes. A pass that is interrupted, even by a kill, continues with the next run. Made by
 * {@link defineScan}.
 */
export class Scan<Row extends Record<string, unknown>> {
  readonly name: string;
  readonly #options: ScanOptions<Row>;
  readonly #key: readonly KeyColumn[];
  readonly #state: Database;
  readonly #leases: LeaseTable;
  readonly #databases = new Map<Knex, Database>();
  readonly #events: Events<ScanEvents>;
  readonly #logger: Logger;
  readonly #leaseMs: number;
  readonly #outageMs: number;
  readonly #processMs: number;
  readonly #stopMs: number;
  #closed = false;
  /** The runs in progress, each with what stops it. */
  readonly #runs = new Map<Promise<unknown>, AbortController>();
  readonly #pace: Pace;
  readonly #throttles: readonly Throttle[];

  constructor(options: ScanOptions<Row>) {
    if (typeof options?.name !== 'string' || !/^[A-Za-z0-9._-]{1,80}$/.test(options.name))
      throw new InvalidArgumentError(`name is ${shownValue(options?.name)}; use up to 80 letters, digits, dots, dashes and underscores.`);
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(options.table ?? ''))
      throw new InvalidArgumentError(`table is ${shownValue(options.table)}; give a table's name without its suffix.`);
    this.name = options.name;
    this.#options = options;
    this.#key = keyColumns(options.key);
    if (typeof options.where !== 'function' || typeof options.process !== 'function')
      throw new InvalidArgumentError(
        `The scan ${options.name} needs two functions: where, which selects rows, and process, which handles them.`,
      );
    for (const name of ['concurrency', 'perDatabase', 'maxPerDatabase', 'window'] as const) {
      wholeNumber(name, options[name] ?? 1);
    }
    this.#pace = new Pace(options.rate);
    this.#throttles = throttleList(options.throttle);
    new BatchSize(options.batch ?? 1_000);
    this.#leaseMs = Math.max(200, durationMs(options.lease ?? '15s', 'lease'));
    this.#outageMs = durationMs(options.outage ?? '30s', 'outage');
    this.#processMs = durationMs(options.processTimeout ?? '10m', 'processTimeout');
    this.#stopMs = durationMs(options.stopTimeout ?? '30s', 'stopTimeout');
    this.#logger = guardLogger(options.logger);
    this.#events = new Events(this.#logger);
    this.#state = new Database({ knex: options.state, loopConnections: 3 });
    this.#leases = new LeaseTable(this.#state);
    const used = namesInUse.get(options.state) ?? new Set();
    if (used.has(options.name))
      throw new InvalidArgumentError(
        `A scan named ${options.name} exists already on this state database; scans share checkpoints by name, so give this one another name.`,
      );
    namesInUse.set(options.state, used.add(options.name));
  }

  /** The events of this scan in this process. A listener that throws is logged; it does not stop the scan. */
  get events(): EventSource<ScanEvents> {
    return this.#events;
  }

  /**
   * Walks the units of the current pass, together with other instances that run the same scan, until every unit has ended. An interrupted
   * pass is resumed from its checkpoints; otherwise a new pass begins. A unit that fails does not make `run` throw: see `exitCode`.
   * @throws InvalidArgumentError if `only` or `shard` is not valid, before any work; MigrationRequiredError if tables are missing
   */
  run(options: RunOptions = {}): Promise<ScanResult> {
    return this.#stoppable(options.signal, (signal) => this.#run(options, signal));
  }

  /**
   * Hands the rows in `scan_failure` over again: those of the latest ten passes of a run with these options that still exist and match, each
   * once. Rows that are handled, or gone, are removed there; those that fail again stay, with the new error. A unit that an instance walks
   * is left out. Call it when the cause is mended, between the passes.
   * @throws InvalidArgumentError if `only` or `shard` is not valid, before any work; MigrationRequiredError if tables are missing
   */
  redriveFailed(options: RunOptions = {}): Promise<RedriveResult> {
    return this.#stoppable(options.signal, (signal) => this.#redriveFailed(options, signal));
  }

  /** Runs something that `signal` and `close` stop. */
  async #stoppable<T>(signal: AbortSignal | undefined, start: (signal: AbortSignal) => Promise<T>): Promise<T> {
    if (this.#closed) throw new InvalidArgumentError(`The scan ${this.name} was closed; define it again to run it.`);
    const stop = new AbortController();
    const run = start(signal ? AbortSignal.any([signal, stop.signal]) : stop.signal);
    this.#runs.set(run, stop);
    try {
      return await run;
    } finally {
      this.#runs.delete(run);
    }
  }

  async #redriveFailed(options: RunOptions, signal: AbortSignal): Promise<RedriveResult> {
    const { scope, shards } = this.#select(options);
    await checkMigrated(this.#state, [coreSchema, scanSchema]);
    const store = new ScanStore(this.#state, this.name, scope);
    const owner = uuidv7();
    const left: string[] = [];
    let [handled, failed, gone] = [0, 0, 0];
    for (const [name, last] of await store.failed.lastOfEachUnit()) {
      const shard = shards.find((one) => one.name === name);
      const lease = shard && !signal.aborted && (await this.#leases.acquire(`scan ${this.name}`, name, owner, this.#leaseMs));
      if (!shard || !lease) {
        left.push(name);
        continue;
      }
      const walk = new FailureWalk<Row>({
        ...this.#walkOptions(shard, store),
        leases: this.#leases,
        lease,
        leaseMs: this.#leaseMs,
        last,
        signal,
      });
      try {
        await walk.run((counts) => {
          handled += counts.handled;
          failed += counts.failed;
          gone += counts.gone;
        });
        if (signal.aborted) left.push(name);
      } catch (err) {
        this.#logger.warn({ err, unit: name }, 'failed rows of a unit are left; redrive them again');
        left.push(name);
      }
    }
    return { handled, failed, gone, left, exitCode: left.length > 0 ? 75 : failed > 0 ? 1 : 0 };
  }

  async #run(options: RunOptions, signal: AbortSignal): Promise<ScanResult> {
    const { scope, shards } = this.#select(options);
    await checkMigrated(this.#state, [coreSchema, scanSchema]);
    const store = new ScanStore(this.#state, this.name, scope);
    const { pass, resumed } = await store.open(shards.map(({ name }) => name));
    const { concurrency = 4, perDatabase = 2, maxPerDatabase } = this.#options;
    const share = new Share<Row>({
      store,
      leases: this.#leases,
      leaseScope: `scan ${this.name}`,
      members: memberScope(this.name, scope),
      // A new owner per run: two runs of one instance do not take each other's units.
      owner: uuidv7(),
      leaseMs: this.#leaseMs,
      shards,
      concurrency,
      perDatabase,
      maxPerDatabase,
      walk: (shard, lease) => this.#walk(shard, lease, store, pass),
      onStarted: (unit, epoch) => this.#events.emit('unit:started', { unit, pass, epoch }),
      onEnded: (unit, how) => this.#events.emit('unit:ended', { unit, how }),
      logger: this.#logger,
    });
    const ends = [this.#state, ...new Set(shards.map(({ knex }) => this.#database(knex)))].map((database) => database.runLoops());
    try {
      await share.run(signal);
      await this.#throughOutage(() => store.close(pass), signal);
    } finally {
      for (const end of ends) end();
    }
    const units = await this.#throughOutage(() => store.units(), signal);
    const open = units.some(({ state }) => state === 'todo' || state === 'running');
    const failed = units.some((unit) => unit.state === 'failed' || unit.state === 'cancelled' || unit.failed > 0);
    return { pass, resumed, units, exitCode: open ? 75 : failed ? 1 : 0 };
  }

  /** Asks the state database again while it is unavailable, for `outage` at most, and not once the run was stopped. */
  async #throughOutage<T>(ask: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const until = monotonicMs() + this.#outageMs;
    for (let pauseMs = 100; ; pauseMs = Math.min(pauseMs * 2, 2_000)) {
      try {
        return await ask();
      } catch (error) {
        if (!isOutage(error) || signal.aborted || monotonicMs() >= until) throw error;
      }
      await wait(pauseMs, signal).catch(() => undefined);
    }
  }

  /**
   * Reads the progress of the current or latest pass of a run with these options, by any instance.
   * @throws InvalidArgumentError if `only` or `shard` is not valid
   */
  async progress(options: Pick<RunOptions, 'only' | 'shard'> = {}): Promise<ScanProgress> {
    const { scope } = this.#select(options);
    return new ScanStore(this.#state, this.name, scope).progress();
  }

  /**
   * Stops the runs in progress, as their signals do, and waits for them, `stopTimeout` and a second at most while the databases answer. Then
   * closes the connections that the scan opened, and frees its name. The knex instances stay open.
   */
  async close(): Promise<void> {
    this.#closed = true;
    for (const stop of this.#runs.values()) stop.abort(new Error('the scan was closed'));
    await Promise.allSettled(this.#runs.keys());
    namesInUse.get(this.#options.state)?.delete(this.name);
    for (const database of this.#databases.values()) await database.close();
    this.#databases.clear();
    await this.#state.close();
  }

  /** Calls {@link close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** The units that a run takes, and the name under which runs of the same units share a pass. */
  #select({ only, shard }: Pick<RunOptions, 'only' | 'shard'>): { readonly scope: string; readonly shards: readonly Shard[] } {
    const { topology } = this.#options;
    if (only !== undefined && shard !== undefined) throw new InvalidArgumentError('Give only or shard, not both.');
    if (only !== undefined) {
      const databases = parseDatabases(only, topology.databases);
      return {
        scope: fitsColumn(`only ${databases.join(',')}`),
        shards: topology.shards.filter(({ database }) => databases.includes(database)),
      };
    }
    if (shard === undefined) return { scope: 'all', shards: topology.shards };
    const [index, total]: readonly number[] = Array.isArray(shard) ? shard : [];
    if (
      index === undefined ||
      total === undefined ||
      !Number.isInteger(index) ||
      !Number.isInteger(total) ||
      total < 1 ||
      index < 0 ||
      index >= total
    )
      throw new InvalidArgumentError(
        `shard is ${shownValue(shard)}; give an index from 0 and a total greater than it, as an xxl-job broadcast does.`,
      );
    return { scope: `shard ${index}/${total}`, shards: topology.shards.filter((_, i) => i % total === index) };
  }

  #walk(shard: Shard, lease: Lease, store: ScanStore, pass: string): UnitWalk<Row> {
    const { batch, window } = this.#options;
    return new UnitWalk<Row>({
      ...this.#walkOptions(shard, store),
      lease,
      pass,
      batch: new BatchSize(batch ?? 1_000),
      window: window ?? 50_000,
      pace: (rows) => this.#pace.reserve(rows),
      throttle: async () => Math.max(0, ...(await Promise.all(this.#throttles.map((throttle) => throttle())))),
      onBatch: ({ matched, handled, failures }) => {
        if (matched > 0) this.#events.emit('batch:handled', { unit: shard.name, matched, handled });
        for (const failure of failures) this.#events.emit('row:failed', { unit: shard.name, ...failure });
      },
    });
  }

  /** What walks over the rows of a unit and over its failed rows have in common. */
  #walkOptions(shard: Shard, store: ScanStore) {
    const { table, version, process, topology } = this.#options;
    return {
      shard,
      table,
      key: this.#key,
      version,
      database: this.#database(shard.knex),
      store,
      where: (nowMs: number) => this.#where(shard, nowMs),
      // With the unit's shard as topology.current.
      process: (rows: readonly Row[], unit: ScanUnit<Row>) => topology.at(shard, () => process(rows, unit)),
      outageMs: this.#outageMs,
      processMs: this.#processMs,
      stopMs: this.#stopMs,
      logger: this.#logger,
    };
  }

  /** The caller's condition as SQL. It is compiled once per unit, not once per batch. */
  #where(shard: Shard, nowMs: number): { readonly sql: string; readonly params: readonly unknown[] } {
    const now: ScanNow = { date: new Date(nowMs), minus: (age) => new Date(nowMs - durationMs(age, 'age')) };
    const { sql, bindings } = shard.knex
      .queryBuilder()
      .where((query) => {
        // Conditions that it adds later would be lost.
        notAPromise('where', this.#options.where(query, now), 'read what the condition needs before the scan is defined');
      })
      .toSQL();
    const head = 'select * where ';
    return sql.startsWith(head) ? { sql: sql.slice(head.length), params: bindings as unknown[] } : { sql: '1 = 1', params: [] };
  }

  #database(knex: Knex): Database {
    let database = this.#databases.get(knex);
    if (!database) this.#databases.set(knex, (database = new Database({ knex, loopConnections: (this.#options.perDatabase ?? 2) * 2 })));
    return database;
  }
}

function keyColumns(key: readonly (string | KeyColumn)[]): readonly KeyColumn[] {
  if (!Array.isArray(key) || key.length === 0)
    throw new InvalidArgumentError("key is empty; name the columns that order the scan, as in key: ['id'].");
  return key.map((one): KeyColumn => {
    const { column, direction } = typeof one === 'string' ? { column: one, direction: 'asc' as const } : (one as KeyColumn);
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(column) || !['asc', 'desc'].includes(direction))
      throw new InvalidArgumentError(`key holds ${shownValue(one)}; give a column's name, or { column, direction: 'asc' | 'desc' }.`);
    return { column, direction };
  });
}

/** Defines a scan. @throws InvalidArgumentError if an option is not valid, or the name is in use on this state database */
export function defineScan<Row extends Record<string, unknown> = Record<string, unknown>>(options: ScanOptions<Row>): Scan<Row> {
  return new Scan(options);
}
