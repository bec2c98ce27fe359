import { wait } from '@holdfast/core';
import { ack } from '../port/subscriber.ts';
import { type BrokerUnderTest, type ContractApi, fact, harness, numbered, subscribe } from './broker-under-test.ts';

/** Defines the test of a broker that fails and returns. It needs a broker that no other test uses. */
export function brokerOutageContract(under: BrokerUnderTest & { readonly outage: () => Promise<void> }, { it }: ContractApi): void {
  const { outage } = under;
  const { test, connect, names } = harness(under, it);

  test('loses no acked message when the broker fails and returns', async () => {
    const { topic, group } = await names();
    const [writer, reader] = [connect(), connect()];
    const seen = new Set<string>();
    await subscribe(reader, topic, { group }, async ({ message: { id } }) => {
      seen.add(id);
      return ack;
    });
    const acked = new Set<string>();
    let stop = false;
    const writing = (async () => {
      while (!stop) {
        const batch = Array.from({ length: 5 }, (_, i) => numbered(topic, `k${i}`, i));
        const results = await writer.publish(batch);
        results.forEach((result, i) => {
          if (result.outcome === 'acked') acked.add(batch[i]?.id ?? '');
        });
        await wait(20);
      }
    })();
    await fact(() => acked.size > 50);
    await outage();
    const before = acked.size;
    await fact(() => acked.size > before + 50, 60_000);
    stop = true;
    await writing;
    await fact(() => [...acked].every((id) => seen.has(id)), 60_000);
  }, 240_000);
}
