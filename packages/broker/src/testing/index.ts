export { type BrokerUnderTest, brokerContract, brokerOutageContract, type ContractApi } from './broker-contract.ts';
