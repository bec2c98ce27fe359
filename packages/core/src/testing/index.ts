export { type PlanRecorder, type RecordedPlan, recordPlans } from './recorded-plans.ts';
export { recordStatements, type SentStatement, type StatementRecorder, tablesRead } from './recorded-statements.ts';
export { seededRandom } from './seeded-random.ts';
export { startStopStress } from './start-stop-stress.ts';
export { type ProxyFault, type TcpProxy, tcpProxy } from './tcp-proxy.ts';
export { connectTestDatabase, type TestDatabase, type TestDialect, testDialects } from './test-databases.ts';
export { type ThroughProxy, throughProxy } from './through-proxy.ts';
export { until } from './until.ts';
export { dieAtCheckpoint, type Victim, Victims } from './victims.ts';
