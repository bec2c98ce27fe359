import { type Backoff, checkpoint, type Events, type Logger, startTimer, type Telemetry } from '@holdfast/core';
import type { NotifierEvents } from '../events.ts';
import type { DueRow } from '../table/due-row.ts';
import type { AttemptEnd, AttemptLog, EndWritten, SkippedAttempt } from './attempt-log.ts';
import { type Delivery, noKey } from './delivery.ts';
import type { Judgement } from './outcome.ts';
import { type EndpointKeys, type Plan, type PrepareOptions, prepare } from './prepare.ts';

/** An endpoint while this worker holds it: the part of a session (`worker/session.ts`) that an attempt needs. */
export interface EndpointHolder extends EndpointKeys {
  /** URL, headers (as JSON) and schedule of the endpoint itself, if it has them. They hold as they are now, not as they were at the trigger. */
  readonly url: string | undefined;
  readonly headers: string | undefined;
  readonly schedule: Backoff | undefined;
  skip(skipped: SkippedAttempt): Promise<boolean>;
  report(judgement: Judgement): void;
  end(end: AttemptEnd): Promise<EndWritten>;
  release(row: DueRow, written: Promise<unknown>): void;
}

export interface DeliverParts {
  readonly prepare: PrepareOptions;
  readonly delivery: Delivery;
  readonly log: AttemptLog;
  /** Reads the body of a notification whose row came without it. */
  readonly body: (id: string) => Promise<string>;
  /** Bounds the number of requests on the wire. */
  readonly wire: { enterWire(): Promise<void> | undefined; leaveWire(): void };
  readonly events: Events<NotifierEvents>;
  readonly telemetry: Telemetry;
  readonly logger: Logger;
}

/** Time after which an attempt whose preparation still waits for the service's functions gives up its place among all attempts, in ms. */
const preparesMs = 100;

/**
 * Makes one attempt: prepares, records, sends and judges it, and writes its end. Never throws.
 * @param leave gives up the attempt's place among all that were admitted; called once, at its end or before. While the service's `keys` or
 *   `stillWanted` hang, the attempt keeps only its place at its endpoint, so that other endpoints are served.
 */
export async function deliver(row: DueRow, holder: EndpointHolder, parts: DeliverParts, leave: () => void): Promise<void> {
  let written: Promise<unknown> = Promise.resolve();
  let left = false;
  const leaveOnce = (): void => {
    if (!left) leave();
    left = true;
  };
  try {
    const prepared = prepare(row, holder, parts.prepare);
    const plan = prepared instanceof Promise ? await inTime(prepared, leaveOnce) : prepared;
    const number = row.notifyTimes + 1;
    // The worker is stopping, or has lost the endpoint: the row stays due.
    if (holder.signal.aborted) return;
    if (plan.kind === 'cancel' || plan.kind === 'later') {
      const { reason } = plan;
      written = holder.skip({
        id: row.id,
        number,
        resends: row.resends,
        reason,
        ...(plan.kind === 'cancel' ? { state: 'CANCELLED', delayMs: undefined } : { state: 'PENDING', delayMs: plan.delayMs }),
      });
      return;
    }
    if (!(await parts.log.start({ id: row.id, number, resends: row.resends, trigger: row.trigger }))) return;
    const judgement = plan.kind === 'no-key' ? noKey(plan.message) : await send(row, plan.keys, holder, parts);
    // Aborted: the worker that serves the endpoint next records the attempt as unknown.
    if (!judgement) return;
    holder.report(judgement);
    written = finish(row, judgement, holder, parts);
  } catch (err) {
    parts.logger.debug({ err, notification: row.id }, 'an attempt could not be started; it is tried again');
  } finally {
    holder.release(row, written);
    leaveOnce();
  }
}

async function inTime(prepared: Promise<Plan>, late: () => void): Promise<Plan> {
  const timer = startTimer(preparesMs, late);
  try {
    return await prepared;
  } finally {
    timer.clear();
  }
}

async function send(row: DueRow, keys: readonly string[], holder: EndpointHolder, parts: DeliverParts): Promise<Judgement | undefined> {
  const waiting = parts.wire.enterWire();
  if (waiting) await waiting;
  try {
    if (holder.signal.aborted) return undefined;
    const paused = checkpoint('attempt:before-send');
    if (paused) await paused;
    const params = row.params ?? (await parts.body(row.id));
    const request = { ...row, url: holder.url ?? row.url, endpointHeaders: holder.headers };
    const judgement = await parts.delivery.send(request, params, keys, holder.signal);
    const answered = checkpoint('attempt:after-send');
    if (answered) await answered;
    return judgement;
  } finally {
    parts.wire.leaveWire();
  }
}

async function finish(row: DueRow, judgement: Judgement, holder: EndpointHolder, parts: DeliverParts): Promise<void> {
  const end = parts.delivery.end(row, judgement, holder.schedule);
  const written = await holder.end(end);
  const { events, logger, telemetry } = parts;
  telemetry.settled.add(1, { kind: 'notification', outcome: written === 'refused' ? 'lost' : judgement.outcome });
  const event = { id: row.id, endpointId: row.endpointId, subjectId: row.subjectId, status: row.status, attempt: end.number };
  if (written === 'refused') events.emit('notification:lease-lost', event);
  else if (end.state === 'DELIVERED') events.emit('notification:delivered', event);
  else if (end.state === 'PENDING' || written === 'resent')
    events.emit('notification:failed', { ...event, outcome: judgement.outcome, nextInMs: written === 'resent' ? 0 : (end.delayMs ?? 0) });
  else {
    logger.warn(
      { ...event, state: end.state, outcome: judgement.outcome },
      'a notification ended without an acknowledgement; resend it once the receiver is fixed',
    );
    events.emit('notification:dead', { ...event, outcome: judgement.outcome, state: end.state });
  }
}
