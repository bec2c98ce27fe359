import type { Message, Publisher, PublishResult } from '@holdfast/broker';
import {
  checkpoint,
  type Events,
  type LaneFeed,
  type StoredError,
  storedError,
  type Telemetry,
  timeoutSignal,
  unlessGivenUp,
} from '@holdfast/core';
import { type OutboxRow, toMessage } from '../table/message-columns.ts';
import type { BrokerHealth } from './broker-health.ts';
import type { Holds } from './holds.ts';
import type { KeyQueue, Taken } from './key-queue.ts';
import type { RelayEvents } from './relay-events.ts';

/** The parts of a relay that a publish uses. */
export interface PublishContext {
  readonly publisher: Publisher;
  readonly publishTimeoutMs: number;
  readonly feed: LaneFeed<OutboxRow>;
  readonly queue: KeyQueue;
  readonly holds: Holds;
  readonly health: BrokerHealth;
  readonly events: Events<RelayEvents>;
  readonly telemetry: Telemetry;
}

const unanswered: PublishResult = {
  outcome: 'retriable',
  error: { name: 'Error', message: 'The publisher gave no result for this message.' },
};

/** Publishes one batch and ends the turn of each of its lines: accepted rows are deleted; others wait, are held, or become dead letters. */
export async function publishTurn(context: PublishContext, taken: readonly Taken[]): Promise<void> {
  const batch: Message[] = [];
  const starts = taken.map(({ rows }) => messagesOf(rows, batch));
  await checkpoint('relay:before-publish');
  const answers = batch.length === 0 ? [] : await send(context, batch);
  await checkpoint('relay:after-publish');
  let answered = 0;
  const results = starts.map(({ sent, broken }): LineResults => {
    const list = Array.from({ length: sent }, () => answers[answered++] ?? unanswered);
    return broken === undefined ? list : [...list, { outcome: 'poison', error: broken }];
  });
  let acked = 0;
  let refused = 0;
  let fatal: StoredError | undefined;
  for (const result of results.flat()) {
    if (result.outcome === 'acked') acked += 1;
    else if (result.outcome !== 'poison') refused += 1;
    if (result.outcome === 'fatal') fatal ??= result.error;
  }
  const outage = context.health.record({ acked, refused, fatal, lines: taken.map(({ line }) => line.name) });
  if (acked > 0) context.telemetry.settled.add(acked, { kind: batch[0]?.topic ?? '', outcome: 'published' });
  const done: OutboxRow[] = [];
  for (const [i, one] of taken.entries()) endLine(context, one, results[i] ?? [], outage, done);
  context.feed.remove(done);
  if (fatal) context.health.refusedService(fatal);
  else if (outage) context.health.outage(errorOf(answers[0]));
}

/** How long the publisher's own answer is waited for once its time is up, in ms: it knows what the broker has accepted. */
const answerGraceMs = 200;

async function send({ publisher, publishTimeoutMs }: PublishContext, batch: readonly Message[]): Promise<readonly PublishResult[]> {
  const signal = timeoutSignal(publishTimeoutMs);
  try {
    // A publisher that ignores its signal must not keep its keys back for ever.
    return await unlessGivenUp(publisher.publish(batch, { signal }), signal, answerGraceMs);
  } catch (error) {
    // After a time-out the outcome is unknown: the broker may have the messages. They are published again.
    const result: PublishResult = { outcome: 'retriable', error: storedError(error) };
    return batch.map(() => result);
  }
}

/** Results of the first rows of a line. Rows after one of which no message can be made were not sent: it leaves the line first. */
type LineResults = readonly PublishResult[];

/**
 * Adds the messages of a line's rows to `batch`, up to the first row of which none can be made (its headers are not JSON, its time is not a
 * time). Such a row can never be published.
 */
function messagesOf(rows: readonly OutboxRow[], batch: Message[]): { readonly sent: number; readonly broken: StoredError | undefined } {
  for (const [sent, row] of rows.entries()) {
    try {
      batch.push(toMessage(row));
    } catch (error) {
      return { sent, broken: storedError(error) };
    }
  }
  return { sent: rows.length, broken: undefined };
}

/** Adds the rows to delete to `done`. */
function endLine(
  { feed, queue, holds, events }: PublishContext,
  one: Taken,
  results: LineResults,
  outage: boolean,
  done: OutboxRow[],
): void {
  const { name, lane } = one.line;
  const parked = holds.isHeld(name);
  const acked: OutboxRow[] = parked ? [] : done;
  const kept: OutboxRow[] = [];
  let failure: { row: OutboxRow; error: StoredError; counts: boolean } | undefined;
  for (const [i, row] of one.rows.entries()) {
    const result = results[i];
    if (result === undefined) {
      kept.push(row);
      continue;
    }
    if (result.outcome === 'acked') {
      acked.push(row);
      if (events.has('message:published'))
        events.emit('message:published', { id: row.message_id, topic: row.topic, key: row.message_key ?? undefined, at: result.at });
    } else if (result.outcome === 'poison') holds.poisoned(name, lane, row, result.error);
    else {
      kept.push(row);
      failure ??= { row, error: result.error, counts: result.outcome === 'retriable' };
    }
  }
  if (kept.length < one.rows.length) holds.published(name, parked ? acked : []);
  const heldNow = !parked && holds.isHeld(name);
  // During an outage a parked line returns to its parked list; every other line stays in memory.
  const stays = failure !== undefined && outage && !parked;
  const waits = failure !== undefined && !stays ? holds.failed(name, lane, failure.row, failure.error, failure.counts) : false;
  queue.ended(one, kept, waits);
  if (!feed.holds(lane)) {
    // The lane went to another relay during the publish; that relay reads the remaining rows.
    feed.forget(queue.extract(name));
    return;
  }
  if (waits || stays) return;
  if (failure !== undefined || heldNow) {
    // The line is held. Parked rows are read again when the line is due; rows that are not parked yet are parked now.
    const rest = queue.extract(name);
    if (!parked) holds.park(rest);
  } else if (parked && !queue.has(name)) holds.drained(name);
}

function errorOf(result: PublishResult | undefined): StoredError | undefined {
  return result && 'error' in result ? result.error : undefined;
}
