export { every, exponential, steps } from '@holdfast/core';
export { type Ack, ack, type JudgedResponse } from './ack.ts';
export type { EgressOptions } from './egress/egress.ts';
export type { EndpointView } from './endpoint-table.ts';
export { EgressDeniedError, type EgressRule, InvalidKeyError, NotSignableError, UnknownKeyError } from './errors.ts';
export type { NotifierEvents } from './events.ts';
export type { Trigger } from './new-notification.ts';
export type { AttemptView, Triggered } from './notification-table.ts';
export {
  createNotifier,
  defaultSchedule,
  type Endpoints,
  type Notifier,
  type NotifierOptions,
  type NotifierTransaction,
  type Probe,
} from './notifier.ts';
export type { NotifierInspection, NotifierStats } from './operate/inspect.ts';
export type { ReplayOptions } from './operate/steer.ts';
export { type AttemptOutcome, attemptOutcomes } from './outcome.ts';
export { notifierSchema } from './schema.ts';
export type { KeySource } from './sign/key-ring.ts';
export type { SealingKeys } from './sign/sealed-key.ts';
export type { Signable, Signer } from './sign/signer.ts';
export { type ParamFlavor, type SortedParamsOptions, sortedParams } from './sign/sorted-params.ts';
export { standardWebhooks } from './sign/standard-webhooks.ts';
export type { NotifierWorker, WorkerOptions } from './worker/worker.ts';
