export { NoShardError } from './errors.ts';
export { parseDatabases } from './route/parse-databases.ts';
export type { Shard, ShardLocation } from './route/shard.ts';
export { javaHashCode, javaSpread, type ShardHash, type ShardKey } from './route/shard-hash.ts';
export { createTopology, type Topology, type TopologyOptions } from './route/topology.ts';
