export { type RabbitmqBroker, type RabbitmqOptions, rabbitmq } from './rabbitmq-broker.ts';
