import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { event, onEveryDatabase } from './suite.ts';

onEveryDatabase('an endpoint among many', (suite) => {
  const count = async (where: object): Promise<number> =>
    Number((await suite.db.knex('notifier_notification').where(where).count({ n: '*' }))[0]?.n);

  it('gives up its place when more endpoints wait than there are places', async () => {
    const receivers = await Promise.all(
      Array.from({ length: 12 }, () => suite.receiver((_, response) => setTimeout(() => response.end('success'), 20))),
    );
    const notifier = suite.notifier();
    // Two places, and for each endpoint more than a turn of work.
    await suite.use(notifier.worker({ endpoints: 2, perEndpoint: 1 })).start();
    await Promise.all(receivers.flatMap(({ url }) => Array.from({ length: 60 }, () => notifier.now().trigger(event(url)))));
    await until(() => receivers.every(({ requests }) => requests.length > 0), { withinMs: 15_000 });
    expect(await count({ state: 'PENDING' })).toBeGreaterThan(0);
    await until(async () => (await count({ state: 'DELIVERED' })) === 720, { withinMs: 40_000 });
  });
});
