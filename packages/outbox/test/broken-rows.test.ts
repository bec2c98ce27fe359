import { until } from '@holdfast/core/testing';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Recorder } from './recorder.ts';
import { onEveryDatabase } from './suite.ts';

onEveryDatabase('a row that is not a message', (suite) => {
  const rejections: unknown[] = [];
  const note = (error: unknown): void => void rejections.push(error);
  beforeEach(() => {
    rejections.length = 0;
    process.on('unhandledRejection', note);
  });
  afterEach(() => {
    process.off('unhandledRejection', note);
    expect(rejections).toEqual([]);
  });
  const by = { actor: 'test', reason: 'test' };

  it.each([
    { prefixPerKey: false, onPoison: 'continue' },
    { prefixPerKey: true, onPoison: 'continue' },
    { prefixPerKey: true, onPoison: 'hold-key' },
  ] as const)(
    'goes to the dead letters with its reason, and the others are published: %o',
    { timeout: 30_000 },
    async ({ prefixPerKey, onPoison }) => {
      const publisher = new Recorder({ prefixPerKey });
      const outbox = suite.outbox({ publisher });
      const broken = ['{"a":', 'null', '"text"', '[]', '{"a":1}', ''];
      for (let n = 0; n < 4; n++) await outbox.now().put('keyed', { k: 'a', n });
      for (const [i] of broken.entries()) await outbox.now().put('free', { n: i });
      await outbox.now().put('free', { n: 100 });
      const table = suite.db.knex('outbox_message');
      const [, second] = await table.clone().where({ message_key: 'a' }).orderBy('id').select('id');
      await table.clone().where({ id: second?.id }).update({ headers: broken[0] });
      const free = await table.clone().where({ topic: 'free' }).orderBy('id').select('id');
      for (const [i, headers] of broken.entries()) await table.clone().where({ id: free[i]?.id }).update({ headers });
      const relay = suite.use(outbox.relay({ onPoison }));
      await relay.start();
      const dead = async () => (await outbox.stats()).dead;
      await until(async () => (await dead()) === broken.length + 1);
      const held = onPoison === 'hold-key';
      await until(() => publisher.acked.length === (held ? 2 : 4));
      expect(publisher.byKey()).toEqual(
        new Map([
          ['a', held ? [0] : [0, 2, 3]],
          ['', [100]],
        ]),
      );
      const letters = await outbox.list({ status: 'dead' });
      for (const letter of letters)
        expect(letter).toMatchObject({ reason: 'poison', error: expect.stringContaining('not a JSON object of texts') });
      // A letter that was corrected is redriven among others that were not.
      await suite.db.knex('outbox_dead').where({ message_key: 'a' }).update({ headers: null });
      expect(await outbox.redrive({}, {}, by)).toBe(broken.length + 1);
      await until(() => publisher.byKey().get('a')?.length === 4);
      if (held) expect(publisher.byKey().get('a')).toEqual([0, 1, 2, 3]);
      await until(async () => (await dead()) === broken.length);
    },
  );
});
