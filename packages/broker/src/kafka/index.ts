export { type KafkaBroker, type KafkaOptions, kafka } from './kafka-broker.ts';
