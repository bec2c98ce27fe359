import type { Schema } from '@holdfast/core';
import type { Knex } from 'knex';
import type { Notes } from '../oracle/notes.ts';
import type { Oracle } from '../oracle/oracle.ts';

/** Leases of all victims: short, so that a take-over is soon. */
export const leaseMs = 1_000;

/** Where a load runs. */
export interface World {
  /** The database, past every fault: for preparing and judging. */
  readonly knex: Knex;
  /** The database as callers and victims have it: behind the proxy, where there is one. */
  readonly service: Knex;
  readonly oracle: Oracle;
  readonly random: () => number;
  /** After this long a statement is given up: `1s` where the network breaks, else long. */
  readonly statementTimeout: '1s' | '5s';
  /** Counts a thing that is worth telling. */
  count(what: string, by?: number): void;
}

/** What came of it. */
export interface Verdict {
  /** Work that a caller was told is taken. */
  readonly accepted: number;
  /** Effects that were seen, repeats left out. */
  readonly effects: number;
  /** Accepted, and never seen. */
  readonly lost: number;
  /** Seen twice, where once is promised. */
  readonly duplicated: number;
  /** Seen again, where at least once is promised. */
  readonly repeated: number;
  /** Out of order, altered, or never asked for. */
  readonly wrong: number;
}

/** Some work that must happen, and who judges whether it did. */
export interface Load {
  readonly name: LoadName;
  readonly schemas: readonly Schema[];
  /** Where victims are killed, and how often it is passed before: more than once only where each item passes it. */
  readonly checkpoints: readonly { readonly name: string; readonly mode?: Mode; readonly hits?: number }[];
  /** What is broken on purpose, at which checkpoint it shows, and what must then be seen: else the judge is blind. */
  readonly controls: readonly { readonly mode: Mode; readonly dieAt: string; readonly sees: 'lost' | 'duplicated' }[];
  prepare(world: World): Promise<void>;
  /** Makes work, until the signal aborts. Returns what the victims have to know. */
  feed(world: World, signal: AbortSignal): Promise<void>;
  /** Whether there is nothing left to do. `acceptedBefore` is how many were accepted when the faults were over. */
  quiet(world: World, acceptedBefore: number): Promise<boolean>;
  judge(world: World): Promise<Verdict>;
  /** Port of what the victims call, if they call something. */
  port?(world: World): Promise<number>;
  end?(): Promise<void>;
}

export type LoadName = 'task' | 'outbox' | 'webhook' | 'scan';
/** What a victim does: its work, a part of it, or its work with one thing broken. */
export type Mode = 'work' | 'write' | 'no-fence' | 'ack-early' | 'no-inbox' | 'believe' | 'note-late';

/** What a victim is told. */
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

/** Tries until it is answered: a refusal is no answer, and neither is a time-out, after which nobody knows. */
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
