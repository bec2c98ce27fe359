export { type MemoryBroker, memoryBroker } from './memory-broker.ts';
