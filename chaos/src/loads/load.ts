import type { Schema } from '@holdfast/core';
import type { Knex } from 'knex';
import type { Notes } from '../oracle/notes.ts';
import type { Oracle } from '../oracle/oracle.ts';

/** The leases of all victims. They are short, so that others take over soon. */
export const leaseMs = 1_000;

/** The surroundings in which a load runs. */
export interface World {
  /** A connection to the database that no fault affects, to prepare and to judge. */
  readonly knex: Knex;
  /** A connection as callers and victims have it: through the proxy, if there is one. */
  readonly service: Knex;
  readonly oracle: Oracle;
  readonly random: () => number;
  /** The time-out of a statement: `1s` if the network breaks, otherwise `5s`. */
  readonly statementTimeout: '1s' | '5s';
  /** Adds to a count that the ledger shows. */
  count(what: string, by?: number): void;
}

/** The result of a run, as the judge counts it. */
export interface Verdict {
  /** Work whose acceptance was confirmed to a caller. */
  readonly accepted: number;
  /** Effects that were seen, without repeats. */
  readonly effects: number;
  /** Accepted, but without an effect. */
  readonly lost: number;
  /** Seen twice, although once is promised. */
  readonly duplicated: number;
  /** Seen again, where at least once is promised. */
  readonly repeated: number;
  /** Out of order, altered, or never asked for. */
  readonly wrong: number;
}

/** Work that must happen, and the judge of whether it did. */
export interface Load {
  readonly name: LoadName;
  readonly schemas: readonly Schema[];
  /** The checkpoints at which victims are killed. `hits`: the pass that kills; above 1 only for a checkpoint that each item passes. */
  readonly checkpoints: readonly { readonly name: string; readonly mode?: Mode; readonly hits?: number }[];
  /** The negative controls: what is broken on purpose, the checkpoint at which it shows, and what the judge must then see. */
  readonly controls: readonly { readonly mode: Mode; readonly dieAt: string; readonly sees: 'lost' | 'duplicated' }[];
  prepare(world: World): Promise<void>;
  /** Submits work until the signal aborts. */
  feed(world: World, signal: AbortSignal): Promise<void>;
  /** Returns whether no work is left. `acceptedBefore` is the number of items that were accepted when the faults ended. */
  quiet(world: World, acceptedBefore: number): Promise<boolean>;
  judge(world: World): Promise<Verdict>;
  /** Starts the server that the victims call, if they call one, and returns its port. */
  port?(world: World): Promise<number>;
  end?(): Promise<void>;
}

export type LoadName = 'task' | 'outbox' | 'webhook' | 'scan';
/** The task of a victim: its work, a part of it, or its work with one thing broken. */
export type Mode = 'work' | 'write' | 'no-fence' | 'ack-early' | 'no-inbox' | 'believe' | 'note-late';

/** The configuration of a victim, passed as its argument. */
export interface VictimConfig {
  readonly load: LoadName;
  readonly address: string;
  readonly oracle: number;
  readonly port: number;
  readonly mode: Mode;
  readonly statementTimeout: '1s' | '5s';
  readonly dieAt?: string;
  readonly hits?: number;
}

/** A victim's side of a load. */
export type VictimSide = (config: VictimConfig, knex: Knex, notes: Notes) => Promise<{ stop(): Promise<void> }>;

/** Counts by id. */
export function tally(ids: Iterable<string>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const id of ids) counts.set(id, (counts.get(id) ?? 0) + 1);
  return counts;
}

/** Retries until the work succeeds, also after a time-out, whose outcome is unknown. Returns false if the signal aborts before. */
export async function insist(world: World, signal: AbortSignal, work: () => Promise<unknown>): Promise<boolean> {
  while (!signal.aborted) {
    try {
      await work();
      return true;
    } catch {
      world.count('refused');
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
  return false;
}
