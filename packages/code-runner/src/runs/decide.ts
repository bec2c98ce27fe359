import type { ListedRow } from './run.ts';
import type { Ending, Phase } from './states.ts';

/** The object of a run outside of the database (a sandbox or a Job), as its executor sees it. */
export interface Observed {
  readonly runId: string;
  readonly attempt: number;
  readonly status:
    | { readonly is: 'pending'; readonly why?: 'IMAGE' | 'UNSCHEDULABLE'; readonly message?: string }
    | { readonly is: 'running'; readonly startedAt?: number }
    | { readonly is: 'ended'; readonly ending: Ending };
}

/** The part of a run's row that {@link decide} reads. */
export interface Decidable {
  readonly id: string;
  readonly phase: Phase;
  readonly attempt: number;
  readonly desired: 'running' | 'stopped';
  readonly worker: string | null;
  readonly queueDeadline: number | null;
  readonly startedAt: number | null;
  readonly claimedAt: number | null;
  readonly timeoutMs: number;
}

/** The facts besides the run itself on which a decision depends. */
export interface Situation {
  /** In epoch ms, by the database's clock. */
  readonly now: number;
  /** The worker that decides: about its own runs, or, as leader of the sweep, about runs whose worker is gone. */
  readonly me: string;
  /** Workers whose heartbeat has not expired. */
  readonly alive: ReadonlySet<string>;
  /** `process`: a program ends with its worker, and only that worker sees it. `cluster`: it continues, and every worker sees it. */
  readonly scope: 'process' | 'cluster';
  /** The longest time from the claim to the start of the program, in ms. */
  readonly pendingMs: number;
}

/** The next step of a run, as {@link decide} returns it. */
export type Decision =
  | { readonly do: 'nothing' }
  /** Record that the object is to be created, then create it. Doing so twice makes one object. */
  | { readonly do: 'create' }
  | { readonly do: 'mark-running' }
  /** Ask the program to end. */
  | { readonly do: 'stop' }
  /** Record how the program ended; then collect the log and the results. */
  | { readonly do: 'collect'; readonly ending: Ending }
  /** Collect the log and the results, then end the run as recorded, and free its slot. */
  | { readonly do: 'finish' }
  /** End the run at once, and free its slot: there is nothing to collect. */
  | { readonly do: 'end'; readonly ending: Ending }
  /** Put the run back into the queue: its program was not started. */
  | { readonly do: 'requeue' }
  /** Take the run over, and continue where its worker stopped. */
  | { readonly do: 'adopt' }
  /** Remove the object: no run needs it. */
  | { readonly do: 'delete' };

const nothing: Decision = { do: 'nothing' };

export function decidable(run: ListedRow): Decidable {
  return { ...run, timeoutMs: run.limits?.timeoutMs ?? 0 };
}

/**
 * Decides the next step of a run from its row and its object. The function is pure. The worker that drives a run, a worker that takes
 * the run over, and the sweep all use it, so a crash at any point loses nothing. Each step is recorded by a compare-and-set before it
 * is done, and may be done again.
 *
 * `row` is `undefined` if the object's run is unknown.
 */
export function decide(row: Decidable | undefined, object: Observed | undefined, at: Situation): Decision {
  if (!row || row.phase === 'terminal' || row.phase === 'draft') return object ? { do: 'delete' } : nothing;
  // The object of an earlier attempt.
  if (object && object.attempt !== row.attempt) return { do: 'delete' };
  if (row.phase === 'queued') {
    if (object) return { do: 'delete' };
    if (row.desired === 'stopped') return { do: 'end', ending: terminated };
    if (row.queueDeadline !== null && row.queueDeadline < at.now) return { do: 'end', ending: expired };
    return nothing;
  }
  if (row.worker !== at.me) {
    if (row.worker !== null && at.alive.has(row.worker)) return nothing;
    if (at.scope === 'cluster') return { do: 'adopt' };
    // The sandbox ended with its worker.
    if (row.phase === 'claimed') return row.desired === 'stopped' ? { do: 'end', ending: terminated } : { do: 'requeue' };
    // The end is recorded; only the slot is still to be freed.
    if (row.phase === 'collecting') return { do: 'adopt' };
    return { do: 'end', ending: row.desired === 'stopped' ? terminated : lost };
  }
  if (row.phase === 'collecting') return { do: 'finish' };
  const stopping = row.desired === 'stopped';
  if (!object) {
    if (stopping) return { do: 'end', ending: terminated };
    // It is created under the same name each time. If a reply was lost, the second creation is refused.
    if (row.phase === 'claimed' || row.phase === 'starting') return { do: 'create' };
    return { do: 'end', ending: lost };
  }
  const { status } = object;
  if (status.is === 'ended') return { do: 'collect', ending: stopping ? { ...terminated, ...exitOf(status.ending) } : status.ending };
  if (stopping) return { do: 'stop' };
  if (row.phase === 'claimed') return { do: 'create' };
  if (status.is === 'pending') {
    if (row.phase === 'starting' && row.claimedAt !== null && row.claimedAt + at.pendingMs < at.now)
      return { do: 'end', ending: stuck(status, at.pendingMs) };
    return nothing;
  }
  if (row.phase === 'starting') return { do: 'mark-running' };
  // The last of three time limits, after the program's supervisor and the cluster's deadline.
  if (row.startedAt !== null && row.startedAt + row.timeoutMs + 60_000 < at.now) return { do: 'stop' };
  return nothing;
}

function exitOf({ exitCode, signal, usage }: Ending): Partial<Ending> {
  return {
    ...(usage === undefined ? {} : { usage }),
    ...(exitCode === undefined ? {} : { exitCode }),
    ...(signal === undefined ? {} : { signal }),
  };
}

export const terminated: Ending = { state: 5, reason: null, message: 'The run was stopped.' };
export const lost: Ending = {
  state: 4,
  reason: 'NODE_LOST',
  message: 'The machine that ran the program was lost, and with it what the program had done. Run it again.',
};
const expired: Ending = {
  state: 4,
  reason: 'QUEUE_EXPIRED',
  message: 'The run waited too long for a free slot. Run it again when there is less to do.',
};

function stuck(status: { readonly why?: 'IMAGE' | 'UNSCHEDULABLE'; readonly message?: string }, pendingMs: number): Ending {
  const reason = status.why ?? 'UNSCHEDULABLE';
  const what = reason === 'IMAGE' ? "The language's image could not be pulled" : 'No machine had room for the program';
  return {
    state: 4,
    reason,
    message: `${what} within ${Math.round(pendingMs / 1000)} s${status.message ? `: ${status.message.slice(0, 500)}` : ''}. Tell whoever operates this service.`,
  };
}
