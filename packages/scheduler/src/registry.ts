import {
  checkTables,
  coreSchema,
  type Database,
  type DatabaseOptions,
  type Duration,
  durationMs,
  guardLogger,
  InvalidArgumentError,
  keyText,
  LeaseTable,
  type Logger,
  Once,
  Orphans,
  openDatabase,
  SettleEffects,
  shownValue,
  type Waker,
  Wakers,
  type WorkTable,
} from '@holdfast/core';
import { type JobDefinition, type JobOptions, jobDefinition } from './job/definition.ts';
import type { Processor } from './run/job-run.ts';
import type { KeepRuns } from './run/purge-runs.ts';
import { runTable, runTurns } from './table/run-table.ts';
import { schedulerSchema } from './table/schema.ts';

/** Options of `createScheduler`. */
export interface SchedulerOptions extends DatabaseOptions {
  /** The name of the service, which its jobs belong to: two services may share a database. */
  readonly app: string;
  /** Default: warnings and errors to the console. */
  readonly logger?: Logger;
  /** How long SUCCEEDED runs are kept. Default 7 days. */
  readonly keep?: Duration;
  /** How long FAILED, CANCELLED and SKIPPED runs are kept. Default 30 days. */
  readonly keepFailed?: Duration;
  /** Wakes workers in other processes. Default: by the database, where it can. */
  readonly waker?: Waker;
}

/** Everything that the parts of one scheduler share. It imports none of the parts. */
export class Registry {
  readonly app: string;
  readonly database: Database;
  readonly table: WorkTable;
  readonly effects: SettleEffects;
  readonly once: Once;
  readonly wakers: Wakers;
  readonly logger: Logger;
  readonly keep: KeepRuns;
  /** Deletes attempts of runs that are gone. */
  readonly orphans: Orphans;
  readonly leases: LeaseTable;
  readonly processors: Map<string, Processor> = new Map();
  /** Jobs that code declares, by key: a worker writes their rows when it starts. */
  readonly declared: Map<string, JobDefinition> = new Map();

  constructor(options: SchedulerOptions) {
    this.app = keyText('app', options?.app, 100);
    this.logger = guardLogger(options.logger);
    this.database = openDatabase(options);
    this.table = runTable(this.database);
    this.effects = new SettleEffects({ turns: runTurns(this.table) });
    this.once = new Once(this.database);
    this.leases = new LeaseTable(this.database);
    this.keep = {
      succeededMs: durationMs(options.keep ?? '7d', 'keep'),
      othersMs: durationMs(options.keepFailed ?? '30d', 'keepFailed'),
    };
    this.orphans = new Orphans(this.database, {
      table: 'scheduler_attempt',
      key: 'id',
      parentColumn: 'task_id',
      parentTable: 'scheduler_run',
    });
    this.wakers = new Wakers({ database: this.database, channel: 'scheduler', waker: options.waker, logger: this.logger });
  }

  /** Registers what runs of a processor do. @throws InvalidArgumentError for a name that is used already */
  register(name: string, processor: Processor): void {
    keyText('processor', name);
    if (typeof processor !== 'function') throw new InvalidArgumentError(`The processor ${shownValue(name)} is not a function.`);
    if (this.processors.has(name))
      throw new InvalidArgumentError(`The processor ${shownValue(name)} is registered already; choose another name.`);
    this.processors.set(name, processor);
  }

  /** Declares a job whose processor has the job's own key. */
  declare(key: string, options: JobOptions, processor: Processor): void {
    const definition = jobDefinition(key, options);
    this.register(key, processor);
    this.declared.set(key, definition);
  }

  /** @throws MigrationRequiredError, DatabaseUnavailableError, UnsupportedDatabaseError */
  async check(): Promise<void> {
    await checkTables(this.database, [coreSchema, schedulerSchema], this.logger);
  }

  async close(): Promise<void> {
    await this.wakers.close();
    await this.database.close();
  }
}
