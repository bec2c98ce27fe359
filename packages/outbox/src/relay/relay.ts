import type { Message, Publisher, PublishResult } from '@holdfast/broker';
import {
  type Backoff,
  checkpoint,
  type Database,
  type Duration,
  defineLoop,
  durationMs,
  type EventSource,
  Events,
  exponential,
  InvalidArgumentError,
  LaneFeed,
  type Logger,
  type Loop,
  lifecycle,
  monotonicMs,
  type Service,
  type StoredError,
  storedError,
  Telemetry,
  uuidv7,
} from '@holdfast/core';
import { laneCount } from '../table/lanes.ts';
import { type OutboxRow, publishColumns, toMessage } from '../table/message-columns.ts';
import { Delays } from './delays.ts';
import { HoldTable } from './hold-table.ts';
import { Holds } from './holds.ts';
import { KeyQueue, type Taken } from './key-queue.ts';
import type { RelayEvents } from './relay-events.ts';

/** How much a relay publishes at a time, how long its lease is, and what it does with what is refused. */
export interface RelayOptions {
  /** How long a lane stays this relay's without a sign of life. At least twice `publishTimeout`. Default 10 s. */
  readonly lease?: Duration;
  /** How long one publish may take before its outcome counts as unknown. Give the publisher the same. Default 3 s. */
  readonly publishTimeout?: Duration;
  /** Messages per publish at most. Default 500. */
  readonly batch?: number;
  /** Bytes of bodies per publish, about. Brokers limit what one request may hold. Default 512 KiB. */
  readonly batchBytes?: number;
  /** Publishes under way at a time. Default 2: more cost up to a third on one machine, since the broker's work and ours then overlap less. */
  readonly concurrency?: number;
  /** Messages in memory at most. Default 4,000. */
  readonly window?: number;
  /** When a key that the broker refuses is tried again. Default: 1 s, doubled up to a minute, without end. Where it ends, its first message is dead. */
  readonly hold?: Backoff;
  /** Later messages of a key one of which can never be published: `continue` (default) or `hold-key`, until the dead one is redriven or the key released. */
  readonly onPoison?: 'continue' | 'hold-key';
  /** How often publishing is tried after the broker said that a person must act. Default 30 s. */
  readonly fatalRetry?: Duration;
  /** How long `stop` waits for publishes under way. Default 10 s. */
  readonly stopAfter?: Duration;
}

/** What the relay needs of its outbox. */
export interface RelayHost {
  readonly database: Database;
  readonly publisher: Publisher;
  readonly logger: Logger;
  /** Calls with the lane of each new message, or with none to look everywhere. Returns the function that ends it. */
  readonly listen: (listener: (lane: number | undefined) => void) => () => void;
}

const fullPauseMs = 1_000;

/**
 * Publishes what stands in the outbox. Any number of relays share the lanes.
 *
 * ```
 * lane --read (by id)--> queue (lines by key) --take--> publish --acked--> delete
 *                            ^                             |-- refused: the line waits, then is held (parked)
 *                            |                             |-- poison: dead letters
 *                            '------- held lines, due -----'-- everything refused: an outage; all stay where they are
 * ```
 * The next rows are read, and rows handled before are deleted, while a publish is under way.
 */
export class Relay implements Service {
  /** Names this relay in the leases. */
  readonly id: string = uuidv7();
  readonly #host: RelayHost;
  readonly #options: Required<Pick<RelayOptions, 'batch' | 'batchBytes' | 'concurrency'>>;
  readonly #publishTimeoutMs: number;
  readonly #fatalRetryMs: number;
  readonly #stopAfterMs: number;
  readonly #feed: LaneFeed<OutboxRow>;
  readonly #queue = new KeyQueue();
  readonly #holds: Holds;
  readonly #events: Events<RelayEvents>;
  readonly #promote: Loop<unknown>;
  readonly #lifecycle: Service;
  readonly #telemetry = new Telemetry('@holdfast/outbox');
  #unlisten: (() => void) | undefined;
  #publishing = 0;
  #failures = 0;
  #pausedUntil = 0;
  #pauseTimer: NodeJS.Timeout | undefined;
  #proof = 0;
  /** Since the broker took anything. */
  readonly #refusedLines = new Set<string>();
  #fatalSince: number | undefined;
  #stopping = true;
  #nextDueMs: number | undefined;
  #turn = 0;

  constructor(host: RelayHost, options: RelayOptions = {}) {
    this.#host = host;
    const { database, logger } = host;
    this.#publishTimeoutMs = durationMs(options.publishTimeout ?? '3s', 'publishTimeout');
    this.#fatalRetryMs = durationMs(options.fatalRetry ?? '30s', 'fatalRetry');
    this.#stopAfterMs = durationMs(options.stopAfter ?? '10s', 'stopAfter');
    const leaseMs = durationMs(options.lease ?? '10s', 'lease');
    if (leaseMs < 2 * this.#publishTimeoutMs)
      throw new InvalidArgumentError(
        `lease is ${leaseMs} ms and publishTimeout ${this.#publishTimeoutMs} ms; give a lease of at least twice the time-out, or no publish may start for half of it.`,
      );
    this.#options = {
      batch: whole('batch', options.batch ?? 500),
      batchBytes: whole('batchBytes', options.batchBytes ?? 524_288),
      concurrency: whole('concurrency', options.concurrency ?? 2),
    };
    this.#events = new Events(logger);
    this.#feed = new LaneFeed<OutboxRow>({
      database,
      shape: { table: 'outbox_message', columns: publishColumns },
      scope: 'outbox',
      lanes: Array.from({ length: laneCount }, (_, lane) => lane),
      owner: this.id,
      leaseMs,
      window: whole('window', options.window ?? 4_000),
      rowBytes: (row) => row.body.byteLength + 200,
      onRows: (rows) => {
        this.#queue.push(this.#holds.admit(rows));
        this.#pump();
      },
      onTaken: (lane) => {
        this.#holds.taken(lane);
        this.#events.emit('relay:lane-taken', { lane });
      },
      onLost: (lane) => {
        this.#drop(lane);
        this.#events.emit('relay:lane-lost', { lane });
      },
      onDrain: async (lane) => {
        this.#drop(lane);
        await this.#queue.quiet(lane);
        await this.#holds.flush();
      },
      logger,
    });
    this.#holds = new Holds({
      table: new HoldTable(database),
      feed: () => this.#feed,
      queue: this.#queue,
      events: this.#events,
      backoff: options.hold ?? exponential({ first: '1s', cap: '1m' }),
      onPoison: options.onPoison ?? 'continue',
      proof: () => this.#proof,
      onReady: () => this.#pump(),
      logger,
    });
    const delays = new Delays(database, this.#feed);
    this.#promote = defineLoop({
      name: 'outbox delays',
      logger,
      runOnce: async () => {
        const promoted = await delays.promote();
        this.#nextDueMs = promoted.more ? 0 : await delays.nextDueMs();
        return promoted;
      },
      busy: ({ more }) => more,
      pauseMs: () => Math.max(2, Math.min(this.#nextDueMs ?? 1_000, 1_000)),
    });
    this.#lifecycle = lifecycle({ start: () => this.#start(), stop: () => this.#stop() });
  }

  /** See {@link RelayEvents}. */
  get events(): EventSource<RelayEvents> {
    return this.#events;
  }

  /** Lanes that are this relay's at present. */
  get lanes(): readonly number[] {
    return this.#feed.lanes;
  }

  /** Whether the broker took the last publish, or nothing was tried yet. */
  get ready(): boolean {
    return this.#failures === 0 && this.#fatalSince === undefined;
  }

  /** A lane of ours, another one at each call; `undefined` if we have none. */
  nextLane(): number | undefined {
    const { lanes } = this.#feed;
    return lanes[this.#turn++ % Math.max(1, lanes.length)];
  }

  /** Whether it holds the lane at present. */
  owns(lane: number): boolean {
    return !this.#stopping && this.#feed.lease(lane) !== undefined;
  }

  start(): Promise<void> {
    return this.#lifecycle.start();
  }

  /** Takes nothing more, waits for what is being published, removes it, and gives its lanes back. */
  stop(): Promise<void> {
    return this.#lifecycle.stop();
  }

  /** Stops it, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  /** Somebody changed what is held, or when a message is due. */
  refresh(): void {
    this.#holds.reload(this.#feed.lanes);
    this.#promote.wake();
    this.#feed.wake();
  }

  async #start(): Promise<void> {
    this.#stopping = false;
    this.#holds.open();
    this.#unlisten = this.#host.listen((lane) => {
      if (lane === undefined) this.refresh();
      else this.#feed.wake(lane);
    });
    await this.#feed.start();
    await this.#promote.start();
  }

  async #stop(): Promise<void> {
    this.#stopping = true;
    this.#unlisten?.();
    clearTimeout(this.#pauseTimer);
    await this.#promote.stop();
    this.#feed.pauseReading();
    const late = new Promise<void>((resolve) => setTimeout(resolve, this.#stopAfterMs).unref());
    await Promise.race([this.#queue.quiet(), late]);
    await this.#holds.close();
    for (let lane = 0; lane < laneCount; lane++) this.#queue.extractLane(lane);
    await this.#feed.stop();
  }

  /** Nothing more of the lane is begun. */
  #drop(lane: number): void {
    this.#holds.lost(lane);
    this.#feed.forget(this.#queue.extractLane(lane));
  }

  #pump(): void {
    if (this.#stopping || monotonicMs() < this.#pausedUntil) return;
    while (this.#publishing < (this.#failures > 0 ? 1 : this.#options.concurrency) && this.#queue.ready > 0) {
      const taken = this.#queue.take({
        rows: this.#options.batch,
        bytes: this.#options.batchBytes,
        wholeLines: this.#host.publisher.prefixPerKey,
        // No publish starts with less lease left than it may take.
        mayTake: (lane) => this.#holds.knows(lane) && this.#feed.lease(lane, this.#publishTimeoutMs) !== undefined,
      });
      if (taken.length === 0) {
        // Leases about to be renewed, or lanes about to be lost.
        this.#pause(50);
        return;
      }
      this.#publishing += 1;
      void this.#publish(taken).finally(() => {
        this.#publishing -= 1;
        this.#pump();
      });
    }
  }

  #pause(ms: number): void {
    const until = monotonicMs() + ms;
    if (this.#pauseTimer !== undefined && this.#pausedUntil >= until) return;
    this.#pausedUntil = until;
    clearTimeout(this.#pauseTimer);
    this.#pauseTimer = setTimeout(() => {
      this.#pauseTimer = undefined;
      this.#pausedUntil = 0;
      this.#pump();
    }, ms);
  }

  async #publish(taken: readonly Taken[]): Promise<void> {
    const batch: Message[] = [];
    for (const { rows } of taken) for (const row of rows) batch.push(toMessage(row));
    await checkpoint('relay:before-publish');
    const results = await this.#send(batch);
    await checkpoint('relay:after-publish');
    let acked = 0;
    let refused = 0;
    let fatal: StoredError | undefined;
    for (let i = 0; i < batch.length; i++) {
      const result = results[i] ?? unanswered;
      if (result.outcome === 'acked') acked += 1;
      else if (result.outcome !== 'poison') refused += 1;
      if (result.outcome === 'fatal') fatal ??= result.error;
    }
    if (acked > 0) {
      this.#proof += 1;
      this.#refusedLines.clear();
      this.#recovered();
      this.#telemetry.settled.add(acked, { kind: batch[0]?.topic ?? '', outcome: 'published' });
    } else for (const { line } of taken) this.#refusedLines.add(line.name);
    // Nothing but refusals of several lines says more of the broker than of the messages: they stay where they are. One line alone
    // says neither: it is held, and no attempt is counted before the broker takes something else.
    const outage = fatal !== undefined || (acked === 0 && refused > 0 && this.#refusedLines.size > 1);
    const done: OutboxRow[] = [];
    let at = 0;
    for (const one of taken) {
      this.#endTurn(one, results, at, outage, done);
      at += one.rows.length;
    }
    this.#feed.remove(done);
    if (fatal) this.#fatal(fatal);
    else if (outage) this.#outage(results[0]);
  }

  async #send(batch: readonly Message[]): Promise<readonly PublishResult[]> {
    const signal = AbortSignal.timeout(this.#publishTimeoutMs);
    try {
      return await this.#host.publisher.publish(batch, { signal });
    } catch (error) {
      // A time-out is indefinite: the broker may have them. They are published again.
      const result: PublishResult = { outcome: 'retriable', error: storedError(error) };
      return batch.map(() => result);
    }
  }

  /** Rows to be deleted are added to `done`. */
  #endTurn(one: Taken, results: readonly PublishResult[], from: number, outage: boolean, done: OutboxRow[]): void {
    const { name, lane } = one.line;
    const parked = this.#holds.isHeld(name);
    const acked: OutboxRow[] = parked ? [] : done;
    const kept: OutboxRow[] = [];
    let failure: { row: OutboxRow; error: StoredError; counts: boolean } | undefined;
    for (const [i, row] of one.rows.entries()) {
      const result = results[from + i] ?? unanswered;
      if (result.outcome === 'acked') {
        acked.push(row);
        if (this.#events.has('message:published')) this.#acked(row, result.at);
      } else if (result.outcome === 'poison') this.#holds.poisoned(name, lane, row, result.error);
      else {
        kept.push(row);
        failure ??= { row, error: result.error, counts: result.outcome === 'retriable' };
      }
    }
    if (kept.length < one.rows.length) this.#holds.published(name, parked ? acked : []);
    const heldNow = !parked && this.#holds.isHeld(name);
    // A line that is parked goes back there; others stay in memory through an outage.
    const stays = failure !== undefined && outage && !parked;
    const waits = failure !== undefined && !stays ? this.#holds.failed(name, lane, failure.row, failure.error, failure.counts) : false;
    this.#queue.ended(one, kept, waits);
    if (!this.#feed.holds(lane)) {
      // It went to another relay meanwhile, who reads what is left.
      this.#feed.forget(this.#queue.extract(name));
      return;
    }
    if (waits || stays) return;
    if (failure !== undefined || heldNow) {
      // The line is held by now: what is parked already is read again when it is due, the rest is parked.
      const rest = this.#queue.extract(name);
      if (!parked) this.#holds.park(rest);
    } else if (parked && !this.#queue.has(name)) this.#holds.drained(name);
  }

  #acked(row: OutboxRow, at: Readonly<Record<string, string | number>>): void {
    this.#events.emit('message:published', { id: row.message_id, topic: row.topic, key: row.message_key ?? undefined, at });
  }

  #recovered(): void {
    this.#failures = 0;
    if (this.#fatalSince === undefined) return;
    this.#events.emit('relay:recovered', { afterMs: Math.round(monotonicMs() - this.#fatalSince) });
    this.#fatalSince = undefined;
  }

  #outage(first: PublishResult | undefined): void {
    this.#failures += 1;
    if (this.#failures === 3)
      this.#host.logger.warn(
        { err: first && 'error' in first ? first.error : undefined },
        'the broker takes nothing; messages wait in the outbox',
      );
    this.#pause(Math.min(50 * this.#failures, fullPauseMs));
  }

  #fatal(error: StoredError): void {
    if (this.#fatalSince === undefined) {
      this.#fatalSince = monotonicMs();
      this.#host.logger.error(
        { err: error },
        'the broker refuses this service: nothing is published until a person acts (credentials, permissions, the name of the cluster). Messages wait in the outbox, and none of them counts a failed attempt',
      );
      this.#events.emit('relay:fatal', { error });
    }
    this.#failures += 1;
    this.#pause(this.#fatalRetryMs);
  }
}

const unanswered: PublishResult = {
  outcome: 'retriable',
  error: { name: 'Error', message: 'The publisher gave no result for this message.' },
};

function whole(what: string, value: number): number {
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError(`${what} is ${value}; give a whole number of at least 1.`);
  return value;
}
