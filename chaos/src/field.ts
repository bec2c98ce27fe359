import { join } from 'node:path';
import { migrate } from '@holdfast/core';
import {
  connectTestDatabase,
  type TestDatabase,
  type TestDialect,
  type ThroughProxy,
  throughProxy,
  type Victim,
  Victims,
} from '@holdfast/core/testing';
import type { Knex } from 'knex';
import type { ScratchServer } from '../../tooling/services/scratch.ts';
import type { Load, Mode, VictimConfig, World } from './loads/load.ts';
import { Oracle } from './oracle/oracle.ts';

export interface FieldOptions {
  readonly load: Load;
  readonly dialect: TestDialect;
  /** The server of `dialect`, if the disturbance needs one. */
  readonly server: ScratchServer | undefined;
  readonly random: () => number;
  readonly statementTimeout: World['statementTimeout'];
  readonly mode: Mode;
}

/** A load, its database behind a proxy, its victims, and its oracle. A disturbance works on a field. */
export class Field implements World {
  readonly load: Load;
  readonly server: ScratchServer | undefined;
  readonly through: ThroughProxy | undefined;
  readonly knex: Knex;
  readonly service: Knex;
  readonly oracle: Oracle;
  readonly random: () => number;
  readonly statementTimeout: World['statementTimeout'];
  readonly counts: Record<string, number> = {};
  readonly population: Victim[] = [];
  /** The number of processes that ended by themselves. None may, unless the fault is aimed at processes. */
  died = 0;
  readonly #database: TestDatabase;
  readonly #victims: Victims = new Victims(join(import.meta.dirname, 'victim.ts'));
  readonly #mode: Mode;
  #port = 0;
  readonly #wanted = new Set<Victim>();

  private constructor(options: FieldOptions, database: TestDatabase, through: ThroughProxy | undefined, oracle: Oracle) {
    this.load = options.load;
    this.server = options.server;
    this.random = options.random;
    this.statementTimeout = options.statementTimeout;
    this.#mode = options.mode;
    this.#database = database;
    this.through = through;
    this.oracle = oracle;
    this.knex = database.knex;
    this.service = through?.knex ?? connectTestDatabase(database.address);
  }

  static async open(options: FieldOptions): Promise<Field> {
    const database = await options.dialect.create();
    await migrate(database.knex, options.load.schemas);
    const through = database.name === 'sqlite' ? undefined : await throughProxy(database.address);
    const field = new Field(options, database, through, await Oracle.start());
    await options.load.prepare(field);
    field.#port = (await options.load.port?.(field)) ?? 0;
    return field;
  }

  get dialect(): TestDatabase['name'] {
    return this.#database.name;
  }

  count(what: string, by = 1): void {
    this.counts[what] = (this.counts[what] ?? 0) + by;
  }

  /** Starts a process. It runs until the field ends it. */
  start(more: Pick<VictimConfig, 'dieAt' | 'hits'> & { readonly mode?: Mode | undefined } = {}): Victim {
    const config: VictimConfig = {
      load: this.load.name,
      address: this.through?.address ?? this.#database.address,
      oracle: this.oracle.port,
      port: this.#port,
      statementTimeout: this.statementTimeout,
      ...more,
      mode: more.mode ?? this.#mode,
    };
    const victim = this.#victims.start(JSON.stringify(config));
    this.#wanted.add(victim);
    void victim.ended.then(({ signal }) => {
      // A process with a checkpoint kills itself there.
      if (this.#wanted.delete(victim) && !(more.dieAt !== undefined && signal === 'SIGKILL')) this.died += 1;
    });
    return victim;
  }

  async end(victim: Victim, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    this.#wanted.delete(victim);
    await victim.end(signal);
  }

  /** The longest time from a fault until work was done again, in ms. */
  slowestMs = 0;

  /** Resolves when work has been done since the call. */
  async progress(withinMs: number): Promise<void> {
    const [accepted, effects] = [this.oracle.read('accepted').length, await this.effects()];
    const started = performance.now();
    for (;;) {
      const fed = this.load.name === 'scan' || this.oracle.read('accepted').length > accepted + 5;
      if (fed && (await this.effects()) > effects + 5) {
        this.slowestMs = Math.max(this.slowestMs, Math.round(performance.now() - started));
        return;
      }
      if (performance.now() - started > withinMs) throw new Error(`No work was done within ${withinMs} ms after the fault.`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** The number of effects so far, in the tables and outside. */
  async effects(): Promise<number> {
    const noted = this.oracle.read('effect').length;
    if (this.load.name !== 'task' && this.load.name !== 'outbox') return noted;
    return noted + Number((await this.knex('effects').count({ n: '*' }))[0]?.n);
  }

  async close(): Promise<void> {
    this.#wanted.clear();
    await this.#victims.end();
    await this.load.end?.();
    await (this.through?.close() ?? this.service.destroy());
    await this.oracle.stop();
    await this.#database.drop();
  }
}
