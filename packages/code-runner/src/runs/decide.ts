import type { RunRow } from './run.ts';
import type { Ending, Phase } from './states.ts';

/** What there is of a run outside the database: a sandbox, a Job. */
export interface Observed {
  readonly runId: string;
  readonly attempt: number;
  readonly status:
    | { readonly is: 'pending'; readonly why?: 'IMAGE' | 'UNSCHEDULABLE'; readonly message?: string }
    | { readonly is: 'running'; readonly startedAt?: number }
    | { readonly is: 'ended'; readonly ending: Ending };
}

/** The part of a run's row that decides. */
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

/** What a decision depends on, besides the run itself. */
export interface Situation {
  /** In epoch ms, by the database. */
  readonly now: number;
  /** Who decides: a worker of its own runs, or the leader of those whose worker is gone. */
  readonly me: string;
  /** Workers that have shown a sign of life in time. */
  readonly alive: ReadonlySet<string>;
  /** `process`: what is started ends with its worker, and nobody else sees it. `cluster`: it goes on, and everybody does. */
  readonly scope: 'process' | 'cluster';
  /** How long a created object may wait before its program starts, in ms. */
  readonly pendingMs: number;
}

/** What {@link decide} says is to be done with a run now. */
export type Decision =
  | { readonly do: 'nothing' }
  /** Write down that it is to be created, then create it. Doing so twice makes one object. */
  | { readonly do: 'create' }
  | { readonly do: 'mark-running' }
  /** Ask it to end. */
  | { readonly do: 'stop' }
  /** Write down how it ended; then gather the log and the results. */
  | { readonly do: 'collect'; readonly ending: Ending }
  /** Gather what is there, then end the run as it was written down, and free its slot. */
  | { readonly do: 'finish' }
  /** End the run at once, and free its slot: there is nothing to gather. */
  | { readonly do: 'end'; readonly ending: Ending }
  /** Back to the queue: it had not begun. */
  | { readonly do: 'requeue' }
  /** Go on where its worker was. */
  | { readonly do: 'adopt' }
  /** Remove the object: no run wants it. */
  | { readonly do: 'delete' };

const nothing: Decision = { do: 'nothing' };

export function decidable(run: RunRow): Decidable {
  return { ...run, timeoutMs: run.limits?.timeoutMs ?? 0 };
}

/**
 * What is to be done about a run, given its row and what there is of it. Pure, and the same for the worker that drives a run, for one
 * that takes it over, and for the sweep: so it does not matter where any of them was when it died. Each step is written down by a
 * compare-and-set before it is done, and can be done again.
 *
 * `row` is `undefined` where the object's run is unknown.
 */
export function decide(row: Decidable | undefined, object: Observed | undefined, at: Situation): Decision {
  if (!row || row.phase === 'terminal' || row.phase === 'draft') return object ? { do: 'delete' } : nothing;
  // What is left of an attempt that was given up.
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
    // Its sandbox ended with it.
    if (row.phase === 'claimed') return row.desired === 'stopped' ? { do: 'end', ending: terminated } : { do: 'requeue' };
    // How it ended was known; the slot is all that is left.
    if (row.phase === 'collecting') return { do: 'adopt' };
    return { do: 'end', ending: row.desired === 'stopped' ? terminated : lost };
  }
  if (row.phase === 'collecting') return { do: 'finish' };
  const stopping = row.desired === 'stopped';
  if (!object) {
    if (stopping) return { do: 'end', ending: terminated };
    // Created again under the same name: of two creations whose replies were lost one is refused.
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
  // The last of three layers: the program's own supervisor, the cluster's deadline, this.
  if (row.startedAt !== null && row.startedAt + row.timeoutMs + 60_000 < at.now) return { do: 'stop' };
  return nothing;
}

function exitOf({ exitCode, signal }: Ending): Partial<Ending> {
  return { ...(exitCode === undefined ? {} : { exitCode }), ...(signal === undefined ? {} : { signal }) };
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
