export { type DatabaseBroker, type DatabaseBrokerOptions, databaseBroker } from './database-broker.ts';
export { brokerSchema } from './schema.ts';
