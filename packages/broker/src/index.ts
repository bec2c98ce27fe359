export { fromHeaders, toHeaders } from './adapter/cloud-events.ts';
export { type Handle, handling, type RawDelivery } from './adapter/handling.ts';
export { KeyedRunner, type KeyedRunnerOptions, type KeyedWork } from './adapter/keyed-runner.ts';
export { SubscribeRefusedError } from './errors.ts';
export type { Broker, DeadLetter, DeadLetterQuery, DeadLetters, RedriveQuery } from './port/dead-letters.ts';
export { delayLevel } from './port/delay-level.ts';
export type { Message } from './port/message.ts';
export { publishTimedOut, refused } from './port/publish-results.ts';
export type { Publisher, PublishResult } from './port/publisher.ts';
export {
  ack,
  type Delivery,
  type DeliveryVerdict,
  reject,
  retry,
  type SubscribeOptions,
  type Subscriber,
  type Subscription,
} from './port/subscriber.ts';
