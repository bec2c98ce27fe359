import {
  type Caps,
  type Children,
  callListener,
  checkTables,
  coreSchema,
  type Database,
  Events,
  guardLogger,
  InvalidArgumentError,
  keyText,
  LeaseTable,
  type Logger,
  localWaker,
  Once,
  Orphans,
  openDatabase,
  type SettleEffects,
  type Turns,
  Wakers,
  type WorkTable,
  wholeNumber,
} from '@holdfast/core';
import type { CompensateBizOptions } from './biz-options.ts';
import { type BizTypes, typeOf } from './biz-type.ts';
import type { BizEvents } from './events.ts';
import type { Registered } from './handler.ts';
import { bizEffects } from './table/biz-effects.ts';
import { bizTable } from './table/biz-table.ts';
import { parentType } from './table/parent-type.ts';
import { compensateBizSchema } from './table/schema.ts';
import { type Hint, type Hints, hintNote } from './wake/hints.ts';

/** The columns of a new row that decide how workers are woken for it. */
interface WrittenRow {
  readonly biz_type: string;
  readonly delayMs: number;
  readonly gate: string | null;
}

/** Everything that the parts of one `CompensateBiz` share: types, handlers, table, events and wakers. It imports none of the parts. */
export class Registry {
  readonly types: BizTypes;
  readonly maxContextBytes: number;
  readonly maxResultBytes: number;
  readonly database: Database;
  readonly table: WorkTable;
  readonly turns: Turns;
  readonly caps: Caps;
  readonly children: Children;
  readonly effects: SettleEffects;
  readonly once: Once;
  readonly leases: LeaseTable;
  /** Deletes attempts of rows that are gone, and counts of fan-outs that have completed. */
  readonly orphans: readonly Orphans[];
  readonly logger: Logger;
  readonly events: Events<BizEvents>;
  readonly wakers: Wakers;
  readonly hints: Hints | undefined;
  readonly handlers: Map<string, Registered>;
  readonly #options: CompensateBizOptions<BizTypes>;
  /** Ids of rows with a newer schema version than this process knows, by type, since the last sweep. */
  readonly #newerRows = new Map<string, Set<string>>();
  readonly #cancelListeners: ((ids: readonly string[]) => void)[] = [];

  /** @param base the registry whose handlers and events this one shares, and the database that it uses instead: see {@link Registry.on} */
  constructor(options: CompensateBizOptions<BizTypes>, base?: { readonly registry: Registry; readonly database: Database }) {
    if (typeof options?.types !== 'object' || Object.keys(options.types).length === 0)
      throw new InvalidArgumentError('types is missing or empty; pass at least one, as in types: { "grant-coupon": bizType(schema) }.');
    for (const type of Object.keys(options.types)) {
      keyText('the name of a type', type, 100);
      if (type === parentType) throw new InvalidArgumentError(`A type can't be named ${parentType}: the rows of fan-outs have that type.`);
      // The collation of an adopted table may leave out trailing spaces; a worker would then run the rows of another type.
      if (type.endsWith(' ')) throw new InvalidArgumentError(`The name of the type ${JSON.stringify(type)} ends with a space; remove it.`);
    }
    this.#options = options;
    this.types = options.types;
    this.handlers = base?.registry.handlers ?? new Map();
    this.maxContextBytes = options.maxContextBytes ?? 262_144;
    this.maxResultBytes = wholeNumber('maxResultBytes', options.maxResultBytes ?? 65_536);
    this.logger = guardLogger(options.logger);
    this.database = base?.database ?? openDatabase(options);
    this.table = bizTable(this.database);
    const { turns, caps, children, effects } = bizEffects(this.table, this.types);
    this.turns = turns;
    this.caps = caps;
    this.children = children;
    this.effects = effects;
    this.once = new Once(this.database);
    this.leases = new LeaseTable(this.database);
    const parentTable = 'compensate_biz';
    this.orphans = [
      new Orphans(this.database, { table: 'compensate_biz_attempt', key: 'id', parentColumn: 'task_id', parentTable }),
      new Orphans(this.database, {
        table: 'compensate_biz_fan_out_count',
        key: 'parent_id',
        parentColumn: 'parent_id',
        parentTable,
        // Those of a fan-out that is being cancelled are needed until all its children have ended.
        unneeded: `t.status <> 'BLOCKED' AND NOT EXISTS (SELECT 1 FROM ${this.database.table('compensate_biz_fan_out')} f WHERE f.parent_id = t.id AND f.cancel_after IS NOT NULL)`,
      }),
    ];
    this.events = base?.registry.events ?? new Events(this.logger);
    this.wakers = new Wakers({ database: this.database, channel: 'compensate-biz', waker: options.waker, logger: this.logger });
    this.hints = options.hints;
  }

  /** The same types, handlers and events on another database. It wakes no worker. For tests that run rows in a transaction of their own. */
  on(database: Database): Registry {
    const { hints: _, ...options } = this.#options;
    return new Registry({ ...options, waker: localWaker(database) }, { registry: this, database });
  }

  /** Registers the handler of a type. @throws UnknownTypeError, InvalidArgumentError */
  register(type: string, handler: Registered): void {
    const { serial } = typeOf(this.types, type);
    wholeNumber('size', handler.size, { most: 10_000 });
    if (serial && handler.many)
      throw new InvalidArgumentError(`${type} is serial: its rows run one at a time per bizId, so it takes handle, not handleBatch.`);
    if (this.handlers.has(type)) throw new InvalidArgumentError(`${type} has a handler already; one type has one handler.`);
    this.handlers.set(type, handler);
  }

  /** Checks the server's version and the tables. @throws MigrationRequiredError, DatabaseUnavailableError, UnsupportedDatabaseError */
  async check(): Promise<void> {
    await checkTables(this.database, [coreSchema, compensateBizSchema], this.logger);
  }

  /** Tells workers, in this process and in others, that rows may be ready. `note` names one row. */
  wake(note?: string): void {
    this.wakers.wake(note);
  }

  /** Wakes workers for new rows. A few rows that may run at once are named by their ids; the hints get the ids too. */
  wakeFor(rows: readonly WrittenRow[], ids: readonly string[]): void {
    if (rows.length === 0) return;
    const hints: Hint[] = [];
    for (const [i, row] of rows.entries()) {
      const id = ids[i];
      if (id && row.delayMs === 0 && row.gate === null) hints.push({ type: row.biz_type, id });
    }
    if (hints.length < rows.length || hints.length > maxNamed) this.wake();
    else for (const hint of hints) this.wake(hintNote(hint));
    // The service may have made `hints` itself. The rows are committed: an error here must not reach the submitter.
    if (hints.length > 0)
      callListener(
        () => this.hints?.send(hints),
        (err) => this.logger.debug({ err }, 'hints were not sent; workers find the rows by polling'),
      );
  }

  /** Calls `listener` with the ids of rows that this process has cancelled, after each commit. */
  onCancelled(listener: (ids: readonly string[]) => void): void {
    this.#cancelListeners.push(listener);
  }

  /** Tells the workers of this process that rows were cancelled. Workers elsewhere see it when they renew their leases. */
  cancelled(ids: readonly string[]): void {
    if (ids.length === 0) return;
    for (const listener of this.#cancelListeners) listener(ids);
  }

  /** Notes a row whose schema version is newer than this process knows. Notes 100,000 rows of a type at most. */
  sawNewer(type: string, id: string): void {
    const ids = this.#newerRows.get(type) ?? new Set();
    this.#newerRows.set(type, ids);
    if (ids.size < 100_000) ids.add(id);
  }

  /** Returns the number of rows of a newer version that were noted since the last call. */
  takeNewer(type: string): number {
    const count = this.#newerRows.get(type)?.size ?? 0;
    this.#newerRows.delete(type);
    return count;
  }

  /** Closes the wakers and the loops' connections. The service's knex stays open. */
  async close(): Promise<void> {
    await this.wakers.close();
    await this.database.close();
  }
}

/** More rows than this wake workers without their ids: a poll then finds them all. */
const maxNamed = 16;
