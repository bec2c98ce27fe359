import { ack, reject } from '../port/subscriber.ts';
import { type BrokerUnderTest, type ContractApi, fact, harness, numbered, publishAll, subscribe } from './broker-under-test.ts';

/** Defines the tests of an adapter that lists and redrives dead letters. */
export function deadLetterContract(under: BrokerUnderTest, { it, equal }: ContractApi): void {
  const { test, connect, names } = harness(under, it);

  test('lists what a group rejected, and delivers it again to that group alone', async () => {
    const { topic, group } = await names();
    const broker = connect();
    const { deadLetters } = broker;
    if (!deadLetters) return;
    const [rejecting, other] = [`${group}-a`, `${group}-b`];
    const handled: string[] = [];
    let mended = false;
    let others = 0;
    await subscribe(broker, topic, { group: rejecting }, async ({ message: { headers }, attempt }) => {
      if (!mended) return reject(`no\n${headers['x-n']}`);
      handled.push(`${headers['x-n']}:${attempt} ${Object.keys(headers)}`);
      return ack;
    });
    await subscribe(broker, topic, { group: other }, async () => {
      others += 1;
      return ack;
    });
    const sent = Array.from({ length: 4 }, (_, i) => numbered(topic, i % 2 === 0 ? 'k' : undefined, i));
    await publishAll(broker, sent);
    const list = async () => {
      const dead = await deadLetters.list({ topic, group: rejecting });
      const rows = dead.map(({ message: { id, key, headers, body, topic: of }, reason }) => ({
        id,
        key,
        of,
        headers,
        body: [...body],
        reason: reason.replace('\n', ' '),
      }));
      return rows.toSorted((a, b) => (a.id < b.id ? -1 : 1));
    };
    await fact(async () => (await list()).length === 4);
    // Listed a second time: they are left where they are.
    equal(
      await list(),
      sent.map(({ id, key, headers, body }, i) => ({ id, key, of: topic, headers, body: [...body], reason: `no ${i}` })),
    );
    equal(await deadLetters.list({ topic, group: other }), []);
    mended = true;
    equal(await deadLetters.redrive({ topic, group: rejecting, limit: 1 }), 1);
    equal(await deadLetters.redrive({ topic, group: rejecting }), 3);
    await fact(() => handled.length >= 4);
    equal(handled.toSorted(), ['0:1 x-n', '1:1 x-n', '2:1 x-n', '3:1 x-n']);
    equal(await list(), []);
    equal(await deadLetters.redrive({ topic, group: rejecting }), 0);
    await publishAll(broker, [numbered(topic, 'k', 9)]);
    await fact(() => handled.includes('9:1 x-n') && others >= 5);
    equal(others, 5);
  }, 90_000);

  test('redrives the dead letters of chosen messages, and leaves the others', async () => {
    const { topic, group } = await names();
    const broker = connect();
    const { deadLetters } = broker;
    if (!deadLetters) return;
    const [rejecting, other] = [`${group}-a`, `${group}-b`];
    const handled: string[] = [];
    let mended = false;
    for (const one of [rejecting, other])
      await subscribe(broker, topic, { group: one }, async ({ message: { headers } }) => {
        if (!mended) return reject(`no ${headers['x-n']}`);
        handled.push(`${one === rejecting ? 'a' : 'b'}${headers['x-n']}`);
        return ack;
      });
    const sent = Array.from({ length: 5 }, (_, i) => numbered(topic, 'k', i));
    const id = (n: number): string => sent[n]?.id ?? '';
    await publishAll(broker, sent);
    const dead = async (of: string) =>
      (await deadLetters.list({ topic, group: of })).map(({ message: { headers }, reason }) => [headers, reason]);
    const all = [0, 1, 2, 3, 4].map((n) => [{ 'x-n': `${n}` }, `no ${n}`]);
    await fact(async () => (await dead(rejecting)).length === 5 && (await dead(other)).length === 5);
    mended = true;
    equal(await deadLetters.redrive({ topic, group: rejecting, ids: [] }), 0);
    equal(await deadLetters.redrive({ topic, group: rejecting, ids: ['nothing', 'nul\0'] }), 0);
    equal(await dead(rejecting), all);
    equal(await deadLetters.redrive({ topic, group: rejecting, ids: [id(3), id(1), id(3), 'nothing'] }), 2);
    await fact(() => handled.length === 2);
    equal(handled, ['a1', 'a3']);
    const left = all.filter((_, n) => n !== 1 && n !== 3);
    equal(
      (await dead(rejecting)).toSorted(([, a], [, b]) => (String(a) < String(b) ? -1 : 1)),
      left,
    );
    equal(await dead(other), all);
    equal(await deadLetters.redrive({ topic, group: rejecting, ids: [id(1), id(3)] }), 0);
    equal(await deadLetters.redrive({ topic, group: rejecting, ids: [id(0), id(2), id(4)], limit: 1 }), 1);
    equal(await deadLetters.redrive({ topic, group: rejecting }), 2);
    await fact(() => handled.length === 5);
    equal(handled.toSorted(), ['a0', 'a1', 'a2', 'a3', 'a4']);
    equal(await dead(rejecting), []);
    equal(await dead(other), all);
  }, 90_000);

  test('redrives a dead letter of a broadcast to each of its members', async () => {
    const { topic, group } = await names();
    const { deadLetters } = connect();
    if (!deadLetters) return;
    const handled: string[] = [];
    let mended = false;
    for (const name of ['one', 'two'])
      await subscribe(connect(), topic, { group, mode: 'broadcast' }, async ({ message: { headers }, attempt }) => {
        if (name === 'one' && !mended) return reject('not yet');
        handled.push(`${name} ${headers['x-n']}:${attempt} ${Object.keys(headers)}`);
        return ack;
      });
    const publisher = connect();
    // A group of its own, whose name begins as those of the members may.
    let others = 0;
    await subscribe(publisher, topic, { group: `${group}.audit` }, async () => {
      others += 1;
      return ack;
    });
    await publishAll(publisher, [numbered(topic, 'k', 1)]);
    await fact(async () => handled.length >= 1 && others === 1 && (await deadLetters.list({ topic, group })).length >= 1);
    equal(handled, ['two 1:1 x-n']);
    mended = true;
    equal(await deadLetters.redrive({ topic, group }), 1);
    await fact(() => handled.length >= 3);
    equal(handled.slice(1).toSorted(), ['one 1:1 x-n', 'two 1:1 x-n']);
    await publishAll(publisher, [numbered(topic, 'k', 2)]);
    await fact(() => handled.length >= 5 && others >= 2);
    equal(others, 2);
    equal(await deadLetters.list({ topic, group }), []);
  }, 90_000);

  test('refuses a limit that is not a count, and ids that are not a list of texts', async () => {
    const { topic, group } = await names();
    const { deadLetters } = connect();
    if (!deadLetters) return;
    const refused = (call: Promise<unknown>): Promise<unknown> =>
      call.then(
        () => 'taken',
        ({ code }) => code,
      );
    for (const limit of [-1, 1.5, Number.NaN, '5' as never]) {
      equal([limit, await refused(deadLetters.list({ topic, group, limit }))], [limit, 'invalid-argument']);
      equal([limit, await refused(deadLetters.redrive({ topic, group, limit }))], [limit, 'invalid-argument']);
    }
    for (const ids of ['m1' as never, [1] as never]) equal(await refused(deadLetters.redrive({ topic, group, ids })), 'invalid-argument');
    for (const limit of [0, Number.POSITIVE_INFINITY]) {
      equal(await deadLetters.list({ topic, group, limit }), []);
      equal(await deadLetters.redrive({ topic, group, limit }), 0);
    }
  });
}
