export { type RedisBroker, type RedisOptions, redis } from './redis-broker.ts';
export { type RedisWakerOptions, redisWaker } from './redis-waker.ts';
