export { type RabbitQueueOptions, rabbitQueue } from './rabbit-queue.ts';
