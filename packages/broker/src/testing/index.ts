export { brokerContract } from './broker-contract.ts';
export { brokerOutageContract } from './broker-outage-contract.ts';
export type { BrokerUnderTest, ContractApi } from './broker-under-test.ts';
