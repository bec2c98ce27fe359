import type { SubscribeOptions } from '../port/subscriber.ts';

/** What a subscription has to know of its options; `handling` has the rest. */
export type MemberOptions = Pick<SubscribeOptions, 'group' | 'mode' | 'concurrency' | 'closeMs'>;
