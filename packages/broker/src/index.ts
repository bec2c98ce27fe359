export { fromHeaders, toHeaders } from './cloud-events.ts';
export { delayLevel } from './delay-level.ts';
export { KeyedRunner, type KeyedRunnerOptions } from './keyed-runner.ts';
export type { Message } from './message.ts';
export { publishTimedOut, refused } from './publish-results.ts';
export type { Publisher, PublishResult } from './publisher.ts';
export {
  ack,
  type Delivery,
  type DeliveryVerdict,
  reject,
  retry,
  type SubscribeOptions,
  type Subscriber,
  type Subscription,
} from './subscriber.ts';
