export { type Behavior, behaviors, type HostileReceiver, hostileReceiver, type ReceivedRequest } from './hostile-receiver.ts';
