import { type Events, type Logger, monotonicMs, type StoredError, startTimer, type Timer } from '@holdfast/core';
import type { RelayEvents } from './relay-events.ts';

/** Pauses, and the listeners to the state of the broker. */
export interface BrokerHealthOptions {
  /** Pause after the broker refused this service as a whole, in ms. */
  readonly fatalRetryMs: number;
  readonly events: Events<RelayEvents>;
  readonly logger: Logger;
  /** Called when a pause has ended. */
  readonly onResume: () => void;
}

/** The outcome of one publish. */
export interface BatchOutcome {
  readonly acked: number;
  /** Messages that may be accepted later. Poison does not count. */
  readonly refused: number;
  /** The broker refuses this service, whatever the message. */
  readonly fatal: StoredError | undefined;
  /** Names of the lines in the batch. */
  readonly lines: readonly string[];
}

/** The pause after an outage: this time for each outage in a row, up to the longest, in ms. */
const outagePauseMs = 50;
const longestOutagePauseMs = 1_000;
/** Outages in a row after which one warning is logged. */
const warnAfter = 3;

/**
 * Tells an outage of the broker from a message that it refuses, and paces publishing during an outage.
 *
 * If several lines are refused and nothing is accepted, the cause is the broker rather than the messages: they stay where they are. If
 * one line alone is refused, the cause is unknown: the line is held, and no attempt is counted before the broker accepts something else.
 */
export class BrokerHealth {
  readonly #options: BrokerHealthOptions;
  /** Lines that were refused since the broker last accepted a message. */
  readonly #refusedLines = new Set<string>();
  #acceptedBatches = 0;
  #failures = 0;
  #fatalSince: number | undefined;
  #pausedUntil = 0;
  #pauseTimer: Timer | undefined;
  #closed = false;

  constructor(options: BrokerHealthOptions) {
    this.#options = options;
  }

  /** Publishes in which the broker accepted at least one message. */
  get acceptedBatches(): number {
    return this.#acceptedBatches;
  }

  /** False after an outage, until the broker accepts a message. */
  get up(): boolean {
    return this.#failures === 0;
  }

  /** True after the broker refused this service, until it accepts a message. */
  get fatal(): boolean {
    return this.#fatalSince !== undefined;
  }

  /** True while nothing may be published. */
  get paused(): boolean {
    return monotonicMs() < this.#pausedUntil;
  }

  /** Records a publish. Returns whether the broker, and not its messages, is the cause of the refusals. */
  record({ acked, refused, fatal, lines }: BatchOutcome): boolean {
    if (acked > 0) {
      this.#acceptedBatches += 1;
      this.#refusedLines.clear();
      this.#recovered();
    } else for (const name of lines) this.#refusedLines.add(name);
    return fatal !== undefined || (acked === 0 && refused > 0 && this.#refusedLines.size > 1);
  }

  /** The broker accepts nothing: pauses, longer with each outage in a row. */
  outage(error: StoredError | undefined): void {
    this.#failures += 1;
    if (this.#failures === warnAfter)
      this.#options.logger.warn({ err: error }, 'the broker accepts no message; messages wait in the outbox');
    this.pause(Math.min(outagePauseMs * this.#failures, longestOutagePauseMs));
  }

  /** The broker refuses this service until a person acts: pauses for `fatalRetryMs`. */
  refusedService(error: StoredError): void {
    if (this.#fatalSince === undefined) {
      this.#fatalSince = monotonicMs();
      this.#options.logger.error(
        { err: error },
        'the broker refuses this service: nothing is published until a person acts (credentials, permissions, the name of the cluster). Messages wait in the outbox, and none of them counts a failed attempt',
      );
      this.#options.events.emit('relay:fatal', { error });
    }
    this.#failures += 1;
    this.pause(this.#options.fatalRetryMs);
  }

  /** Pauses publishing for `ms`; a longer pause that has begun stays. */
  pause(ms: number): void {
    if (this.#closed) return;
    const until = monotonicMs() + ms;
    if (this.#pauseTimer !== undefined && this.#pausedUntil >= until) return;
    this.#pausedUntil = until;
    this.#pauseTimer?.clear();
    this.#pauseTimer = startTimer(ms, () => {
      this.#pauseTimer = undefined;
      this.#pausedUntil = 0;
      this.#options.onResume();
    });
  }

  /** Allows pauses after `close`. */
  open(): void {
    this.#closed = false;
  }

  /** Ends a pause that is under way, and begins no other. The next `start` may publish at once. */
  close(): void {
    this.#closed = true;
    this.#pauseTimer?.clear();
    this.#pauseTimer = undefined;
    this.#pausedUntil = 0;
  }

  #recovered(): void {
    if (this.#failures >= warnAfter || this.#fatalSince !== undefined)
      this.#options.logger.info({ failures: this.#failures }, 'the broker accepts messages again');
    this.#failures = 0;
    if (this.#fatalSince === undefined) return;
    this.#options.events.emit('relay:recovered', { afterMs: Math.round(monotonicMs() - this.#fatalSince) });
    this.#fatalSince = undefined;
  }
}
