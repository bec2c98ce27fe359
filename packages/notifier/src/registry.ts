import {
  Backoff,
  type Database,
  durationMs,
  Events,
  guardLogger,
  InvalidArgumentError,
  type Logger,
  openDatabase,
  shownValue,
  Wakers,
} from '@holdfast/core';
import { type Ack, ack } from './attempt/ack.ts';
import { DatabaseClock } from './attempt/database-clock.ts';
import type { StillWanted } from './attempt/prepare.ts';
import { Egress } from './egress/egress.ts';
import { EndpointTable } from './endpoint/endpoint-table.ts';
import type { NotifierEvents } from './events.ts';
import { defaultSchedule, type NotifierOptions } from './notifier-options.ts';
import { KeyRing } from './sign/key-ring.ts';
import { checkSealingKeys, type SealingKeys } from './sign/sealed-key.ts';
import type { Signer } from './sign/signer.ts';
import { standardWebhooks } from './sign/standard-webhooks.ts';
import { NotificationTable } from './table/notification-table.ts';

/** Everything that the parts of one `Notifier` share: tables, keys, the rules for destinations, clock, events and wakers. */
export class Registry {
  readonly database: Database;
  readonly logger: Logger;
  readonly signers: readonly Signer[];
  readonly schedule: Backoff;
  readonly ack: Ack;
  readonly sealingKeys: SealingKeys | undefined;
  readonly stillWanted: StillWanted | undefined;
  /** Names of the headers that a trigger or an endpoint may set, in lower case. */
  readonly allowHeaders: ReadonlySet<string>;
  /** How long a promise of `keys` or `stillWanted` is waited for, in ms. */
  readonly callMs: number;
  readonly keys: KeyRing;
  readonly egress: Egress;
  readonly endpoints: EndpointTable;
  readonly notifications: NotificationTable;
  readonly clock: DatabaseClock;
  readonly events: Events<NotifierEvents>;
  readonly wakers: Wakers;

  constructor(options: NotifierOptions) {
    this.database = openDatabase(options);
    requireCallable(options);
    this.logger = guardLogger(options.logger);
    this.signers = options.sign ?? [standardWebhooks()];
    this.schedule = options.schedule ?? defaultSchedule;
    if (!isBackoff(this.schedule))
      throw new InvalidArgumentError("schedule is not a Backoff; build one, as in steps('3s', '9s').then(every('30m').upTo(10)).");
    this.ack = options.ack ?? ack.body('success');
    checkSealingKeys(options.sealingKeys);
    this.sealingKeys = options.sealingKeys;
    this.stillWanted = options.stillWanted;
    this.allowHeaders = new Set(headerNames(options.allowHeaders ?? []));
    this.callMs = durationMs(options.callTimeout ?? '5s', 'callTimeout');
    this.keys = new KeyRing({ source: options.keys, signers: this.signers, callMs: this.callMs, logger: this.logger });
    this.egress = new Egress(options.egress);
    this.endpoints = new EndpointTable(this.database);
    this.notifications = new NotificationTable(this.database);
    this.clock = new DatabaseClock(this.database);
    this.events = new Events(this.logger);
    this.wakers = new Wakers({ database: this.database, channel: 'notifier', waker: options.waker, logger: this.logger });
  }
}

/** Refuses what would fail only when a trigger or an attempt calls it. @throws InvalidArgumentError */
function requireCallable(options: NotifierOptions): void {
  for (const name of ['keys', 'ack', 'stillWanted'] as const)
    if (typeof (options[name] ?? requireCallable) !== 'function')
      throw new InvalidArgumentError(`${name} is ${shownValue(options[name])}; give a function.`);
  const signers: unknown = options.sign ?? [];
  if (!Array.isArray(signers) || !signers.every((signer) => typeof signer?.checkKey === 'function'))
    throw new InvalidArgumentError('sign is not a list of signers; give one, such as [standardWebhooks()], or [].');
}

function headerNames(names: readonly string[]): readonly string[] {
  if (!Array.isArray(names) || names.some((name) => typeof name !== 'string'))
    throw new InvalidArgumentError(`allowHeaders is ${shownValue(names)}; give a list of the names of headers.`);
  return names.map((name) => name.toLowerCase());
}

/** Returns whether a schedule can be asked: ours, or one of the service's own. */
function isBackoff(schedule: Pick<Backoff, 'delayMs' | 'maxAttempts'>): boolean {
  return schedule instanceof Backoff || (typeof schedule.delayMs === 'function' && schedule.maxAttempts >= 1);
}
