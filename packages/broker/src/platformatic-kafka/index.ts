export { type PlatformaticKafkaBroker, type PlatformaticKafkaOptions, platformaticKafka } from './kafka-broker.ts';
