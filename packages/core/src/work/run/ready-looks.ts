import { type Look, LookBack, shortestMs } from '../../loop/look-back.ts';
import type { Logger } from '../../observe/logger.ts';
import type { ReadyGroup } from '../row/ready-groups.ts';
import type { WorkTable } from '../row/work-table.ts';
import type { Floors } from './floors.ts';

/** Groups of one kind that a look over everything reads; the next such look reads those that follow. */
const groupsPerKind = 1_000;

/** Kinds without a floor around which a look looks. Each one costs two probes. */
const maxStanding = 32;

/** The table and the floors of {@link ReadyLooks}. */
export interface ReadyLooksOptions {
  readonly table: Pick<WorkTable, 'ready'>;
  readonly floors: Floors;
  /** Called when a look that ran beside others has found something: take it by the next `next`. */
  readonly onFound: () => void;
  readonly logger: Logger;
}

/** The result of a look. */
export interface LookResult {
  readonly groups: readonly ReadyGroup[];
  /** True if the look was one over everything. A group that it did not find has no READY row. */
  readonly complete: boolean;
}

/**
 * Reads which kinds and groups have READY rows, as far back as `LookBack` says. A look that takes long runs beside short ones, one at a time:
 * several would take the connections that claims and renewals need.
 */
export class ReadyLooks {
  readonly #options: ReadyLooksOptions;
  readonly #lookBack = new LookBack();
  /** The group at which the next look begins, by kind, for kinds with more groups than one look reads. */
  readonly #nextGroups = new Map<string, string>();
  /** The kinds that the last look found and from which nothing has been claimed: they are paused or unknown here. */
  #standing: readonly string[] = [];
  #beside: Promise<void> | undefined;
  /** Groups that a look beside has found, and that no call of `next` has returned yet. */
  #found: readonly ReadyGroup[] = [];

  constructor(options: ReadyLooksOptions) {
    this.#options = options;
  }

  /** Makes the next look. It also returns what a look beside has found meanwhile. */
  async next(): Promise<LookResult> {
    const { groups, complete } = await this.#look();
    const found = this.#found;
    this.#found = [];
    return { groups: leastRanks([...groups, ...found]), complete };
  }

  async #look(): Promise<LookResult> {
    const noFloors = this.#options.floors.size === 0;
    if (noFloors || !this.#beside) {
      const look = this.#lookBack.begin(noFloors);
      if (noFloors || !look.slow) return { groups: await this.#run(look), complete: look.backMs === undefined };
      this.#runBeside(look);
    }
    return { groups: await this.#from(shortestMs), complete: false };
  }

  /** Looks from `backMs` below the floors. */
  async #from(backMs: number): Promise<readonly ReadyGroup[]> {
    const { table, floors } = this.#options;
    const list = floors.list(backMs);
    const found = await table.ready({ floors: list, standing: this.#standing });
    const floored = new Set(list.map(({ kind }) => kind));
    this.#standing = [...new Set(found.map(({ kind }) => kind))].filter((kind) => !floored.has(kind)).slice(0, maxStanding);
    return found;
  }

  /** Resolves when no look runs beside others. */
  async quiet(): Promise<void> {
    await this.#beside;
  }

  #runBeside(look: Look): void {
    const { logger, onFound } = this.#options;
    this.#beside = this.#run(look)
      .then(
        (found) => {
          if (found.length === 0) return;
          this.#found = found;
          onFound();
        },
        (error) => logger.debug({ err: error }, 'a look far back failed; retrying'),
      )
      .finally(() => {
        this.#beside = undefined;
      });
  }

  async #run(look: Look): Promise<readonly ReadyGroup[]> {
    const { table } = this.#options;
    try {
      if (look.backMs !== undefined) {
        const found = await this.#from(look.backMs);
        look.ended();
        return found;
      }
      const found = await table.ready({ groupsPerKind, from: this.#nextGroups });
      // Where many groups have rows, a look over everything finds work: other tenants must not wait for the next one 20 times as long as it takes.
      look.ended(Math.min(20, Math.max(1, found.length)));
      const names = new Map<string, string[]>();
      for (const { kind, group } of found) names.set(kind, [...(names.get(kind) ?? []), group]);
      this.#nextGroups.clear();
      for (const [kind, all] of names) if (all.length >= groupsPerKind) this.#nextGroups.set(kind, all.at(-1) ?? '');
      return found;
    } catch (error) {
      look.failed();
      throw error;
    }
  }
}

/**
 * One entry for each group, the one of the least rank. Of two looks at a group, the older may not have seen a row that was committed between
 * them: its rank would raise the floor past that row.
 */
function leastRanks(groups: readonly ReadyGroup[]): ReadyGroup[] {
  const least = new Map<string, ReadyGroup>();
  for (const one of groups) {
    // The entry of a kind's suspects has no rank of its own.
    const key = JSON.stringify([one.kind, one.group, one.lost.most > 0]);
    const other = least.get(key);
    if (!other || one.rank < other.rank) least.set(key, one);
  }
  return [...least.values()];
}
