import type { Publisher } from '@holdfast/broker';
import {
  type Backoff,
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
  type Service,
  settledWithin,
  Telemetry,
  uuidv7,
  wholeNumber,
} from '@holdfast/core';
import { laneCount } from '../table/lanes.ts';
import { largeColumns, type OutboxRow, publishColumns } from '../table/message-columns.ts';
import { BrokerHealth } from './broker-health.ts';
import { Delays } from './delays.ts';
import { Holds } from './holds.ts';
import { KeyQueue } from './key-queue.ts';
import { type PublishContext, publishTurn } from './publish-turn.ts';
import type { RelayEvents } from './relay-events.ts';

/** Options of a relay. */
export interface RelayOptions {
  /** Time after which other relays take the lanes of a relay that died. At least twice `publishTimeout`. Default 10 s. */
  readonly lease?: Duration;
  /**
   * Time after which a publish counts as failed, and its messages are published again: its signal aborts, and its answer counts for 0.2 s more.
   * Give the publisher the same. Default 3 s.
   */
  readonly publishTimeout?: Duration;
  /** Messages in one publish at most. Default 500. */
  readonly batch?: number;
  /** Bytes of the bodies in one publish, about. Brokers limit the size of a request. Default 524,288 (512 KiB). */
  readonly batchBytes?: number;
  /** Publishes under way at a time. Default 2: more cost up to a third on one machine, since the broker's work and ours overlap less. */
  readonly concurrency?: number;
  /** Messages in memory at most. Default 4,000. */
  readonly window?: number;
  /**
   * When a key that the broker refuses is tried again. Default: 1 s, doubled up to a minute, without end. After the last try of a schedule
   * that ends, the first message of the key becomes a dead letter.
   */
  readonly hold?: Backoff;
  /**
   * Later messages of a key after one that can never be published: `continue` (default) publishes them; `hold-key` keeps them until the
   * dead letter is redriven or the key is released.
   */
  readonly onPoison?: 'continue' | 'hold-key';
  /** Pause between tries after the broker refused this service, as `relay:fatal` reports. Default 30 s. */
  readonly fatalRetry?: Duration;
  /**
   * Time after which `stop` gives up waiting for publishes under way. It logs their messages at `warn`; they stay in the outbox, and may be
   * published again. Default 10 s.
   */
  readonly stopTimeout?: Duration;
}

const purgePauseMs = 600_000;

/** The part of an outbox that a relay needs. */
export interface RelayHost {
  readonly database: Database;
  readonly publisher: Publisher;
  readonly logger: Logger;
  /** Calls `listener` with the lane of each new message, or with `undefined` for all lanes. Returns a function that ends it. */
  readonly listen: (listener: (lane: number | undefined) => void) => () => void;
  /** Deletes dead letters and ids of puts that are older than their retention. */
  readonly purge: (signal: AbortSignal) => Promise<unknown>;
}

/**
 * Publishes the messages of an outbox. Any number of relays share its lanes.
 *
 * ```
 * lane --read (by id)--> queue (lines by key) --take--> publish --acked--> delete
 *                            ^                             |-- refused: the line waits, then is held (parked)
 *                            |                             |-- poison: dead letters
 *                            '------- held lines, due -----'-- everything refused: an outage; all stay where they are
 * ```
 * While a publish is under way, the next rows are read and published rows are deleted.
 */
export class Relay implements Service {
  /** Names this relay in the leases. */
  readonly id: string = uuidv7();
  readonly #host: RelayHost;
  readonly #options: Required<Pick<RelayOptions, 'batch' | 'batchBytes' | 'concurrency'>>;
  readonly #publishTimeoutMs: number;
  readonly #stopTimeoutMs: number;
  readonly #feed: LaneFeed<OutboxRow>;
  readonly #queue = new KeyQueue();
  readonly #holds: Holds;
  readonly #events: Events<RelayEvents>;
  readonly #promote: Loop<unknown>;
  readonly #purge: Loop<unknown>;
  readonly #lifecycle: Service;
  readonly #health: BrokerHealth;
  readonly #publishContext: PublishContext;
  #unlisten: (() => void) | undefined;
  #publishing = 0;
  #stopping = true;
  #nextDueMs: number | undefined;
  #nextLane = 0;

  constructor(host: RelayHost, options: RelayOptions = {}) {
    this.#host = host;
    const { database, logger } = host;
    this.#publishTimeoutMs = durationMs(options.publishTimeout ?? '3s', 'publishTimeout');
    const fatalRetryMs = durationMs(options.fatalRetry ?? '30s', 'fatalRetry');
    this.#stopTimeoutMs = durationMs(options.stopTimeout ?? '10s', 'stopTimeout');
    const leaseMs = durationMs(options.lease ?? '10s', 'lease');
    if (leaseMs < 2 * this.#publishTimeoutMs)
      throw new InvalidArgumentError(
        `lease is ${leaseMs} ms and publishTimeout ${this.#publishTimeoutMs} ms; give a lease of at least twice publishTimeout, since a publish starts only while the lease lasts that long.`,
      );
    this.#options = {
      batch: wholeNumber('batch', options.batch ?? 500),
      batchBytes: wholeNumber('batchBytes', options.batchBytes ?? 524_288),
      concurrency: wholeNumber('concurrency', options.concurrency ?? 2),
    };
    this.#events = new Events(logger);
    this.#health = new BrokerHealth({ fatalRetryMs, events: this.#events, logger, onResume: () => this.#pump() });
    this.#feed = new LaneFeed<OutboxRow>({
      database,
      shape: { table: 'outbox_message', columns: publishColumns, large: largeColumns },
      scope: 'outbox',
      lanes: Array.from({ length: laneCount }, (_, lane) => lane),
      owner: this.id,
      leaseMs,
      window: wholeNumber('window', options.window ?? 4_000),
      rowBytes: (row) => row.body.byteLength + (row.headers?.length ?? 0),
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
      database,
      feed: () => this.#feed,
      queue: this.#queue,
      events: this.#events,
      backoff: options.hold ?? exponential({ first: '1s', cap: '1m' }),
      onPoison: options.onPoison ?? 'continue',
      acceptedBatches: () => this.#health.acceptedBatches,
      onReady: () => this.#pump(),
      logger,
    });
    this.#publishContext = {
      publisher: host.publisher,
      publishTimeoutMs: this.#publishTimeoutMs,
      feed: this.#feed,
      queue: this.#queue,
      holds: this.#holds,
      health: this.#health,
      events: this.#events,
      telemetry: new Telemetry('@holdfast/outbox'),
    };
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
      pauseMs: () => {
        const dueMs = this.#nextDueMs ?? 1_000;
        return dueMs < 1_000 ? { untilMs: Math.max(2, dueMs) } : 1_000;
      },
    });
    this.#purge = defineLoop({ name: 'outbox purge', logger, runOnce: ({ signal }) => host.purge(signal), pauseMs: () => purgePauseMs });
    this.#lifecycle = lifecycle({ start: () => this.#start(), stop: () => this.#stop() });
  }

  /** See {@link RelayEvents}. */
  get events(): EventSource<RelayEvents> {
    return this.#events;
  }

  /** Lanes of this relay at present. */
  get lanes(): readonly number[] {
    return this.#feed.lanes;
  }

  /** True until a publish finds that the broker is down or refuses this service, and again after it accepts a message. */
  get ready(): boolean {
    return this.#health.up && !this.#health.fatal;
  }

  /** A lane of this relay, another one at each call; `undefined` if it has none. */
  nextLane(): number | undefined {
    const { lanes } = this.#feed;
    return lanes[this.#nextLane++ % Math.max(1, lanes.length)];
  }

  /** Returns whether this relay publishes from the lane at present. */
  owns(lane: number): boolean {
    return !this.#stopping && this.#feed.lease(lane) !== undefined;
  }

  start(): Promise<void> {
    return this.#lifecycle.start();
  }

  /** Starts no publish, waits for those under way, deletes their rows, and gives the lanes to other relays. */
  stop(): Promise<void> {
    return this.#lifecycle.stop();
  }

  /** Stops it, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  /** Reads holds, due times and lanes again, after an operator released a key or a delayed message was put. */
  refresh(): void {
    this.#holds.reload(this.#feed.lanes);
    this.#promote.wake();
    this.#feed.wake();
  }

  async #start(): Promise<void> {
    this.#stopping = false;
    this.#health.open();
    this.#holds.open();
    this.#unlisten = this.#host.listen((lane) => {
      if (lane === undefined) this.refresh();
      else this.#feed.wake(lane);
    });
    await this.#feed.start();
    await this.#promote.start();
    await this.#purge.start();
  }

  async #stop(): Promise<void> {
    this.#stopping = true;
    this.#unlisten?.();
    this.#health.close();
    await this.#promote.stop();
    await this.#purge.stop();
    this.#feed.pauseReading();
    await this.#quietInTime();
    await this.#holds.close();
    for (let lane = 0; lane < laneCount; lane++) this.#queue.extractLane(lane);
    await this.#feed.stop();
  }

  /** Waits for the publishes under way, up to `stopTimeout`, and logs the messages of those that have not ended. */
  async #quietInTime(): Promise<void> {
    await settledWithin(this.#stopTimeoutMs, this.#queue.quiet());
    const left = this.#queue.underWay();
    if (left.length === 0) return;
    const messages = left.slice(0, 100).map(({ message_id, topic, message_key }) => ({ id: message_id, topic, key: message_key }));
    this.#host.logger.warn(
      { count: left.length, messages, stopTimeoutMs: this.#stopTimeoutMs },
      'the relay has stopped though a publish had not ended: its messages stay in the outbox, and another relay may publish them again. Give stopTimeout more than publishTimeout',
    );
  }

  /** Forgets the rows of a lane that are not under way. */
  #drop(lane: number): void {
    this.#holds.lost(lane);
    this.#feed.forget(this.#queue.extractLane(lane));
  }

  #pump(): void {
    if (this.#stopping || this.#health.paused) return;
    while (this.#publishing < (this.#health.up ? this.#options.concurrency : 1) && this.#queue.ready > 0) {
      const taken = this.#queue.take({
        rows: this.#options.batch,
        bytes: this.#options.batchBytes,
        wholeLines: this.#host.publisher.prefixPerKey,
        // A publish starts only if the lease lasts longer than it may take.
        mayTake: (lane) => this.#holds.knows(lane) && this.#feed.lease(lane, this.#publishTimeoutMs) !== undefined,
      });
      if (taken.length === 0) {
        // The leases are about to be renewed, or the lanes about to be lost.
        this.#health.pause(50);
        return;
      }
      this.#publishing += 1;
      void publishTurn(this.#publishContext, taken)
        .catch((err: unknown) => {
          // Their lines stay under way: rows that another relay reads after this one has stopped.
          this.#host.logger.error(
            { err, lines: taken.map(({ line }) => line.name) },
            'a publish ended with an error of its own; report it',
          );
        })
        .finally(() => {
          this.#publishing -= 1;
          this.#pump();
        });
    }
  }
}
