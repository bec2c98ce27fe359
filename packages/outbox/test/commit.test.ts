import { wait } from '@holdfast/core';
import { type ThroughProxy, throughProxy, until } from '@holdfast/core/testing';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { topic } from '../src/index.ts';
import { Recorder } from './recorder.ts';
import { onEveryDatabase, schemaOf } from './suite.ts';

const cycles = Number(process.env.HOLDFAST_CYCLES ?? 3);

onEveryDatabase(
  'a COMMIT whose reply is lost',
  (suite) => {
    let through: ThroughProxy;
    beforeAll(async () => {
      through = await throughProxy(suite.db.address);
    });
    afterAll(() => through?.close());
    /** Puts in a transaction whose COMMIT reaches the server and whose reply is lost; then once more, as the caller must. */
    const putTwice = async (options: { id?: string }, n: number): Promise<void> => {
      const { knex, proxy } = through;
      const outbox = suite.outbox({ knex });
      const once = (cut: boolean) =>
        knex.transaction(async (trx) => {
          await outbox.in(trx).put('keyed', { k: `k${n}`, n }, options);
          if (cut) proxy.cutReplyAfter(0);
        });
      await expect(once(true)).rejects.toThrow();
      await once(false);
    };

    it('makes one message of a put that is tried again with its id, also after the first was published', async () => {
      const publisher = new Recorder();
      const relay = suite.use(suite.outbox({ publisher }).relay());
      await relay.start();
      const total = cycles * 10;
      for (let n = 0; n < total; n++) await putTwice({ id: `order-${n}` }, n);
      await until(() => publisher.acked.length >= total);
      await wait(300);
      expect(publisher.acked.map(({ id }) => id).sort()).toEqual(Array.from({ length: total }, (_, n) => `order-${n}`).sort());
    }, 120_000);

    it('(control) makes two of a put that has no id', async () => {
      const publisher = new Recorder();
      const relay = suite.use(suite.outbox({ publisher }).relay());
      await relay.start();
      await putTwice({}, 1);
      await until(() => publisher.acked.length === 2);
    });
  },
  ['postgres', 'mariadb', 'mysql'],
);

onEveryDatabase(
  'ids that are committed late',
  (suite) => {
    it('are all published, while a reader with a stored position passes some of them', async () => {
      const publisher = new Recorder();
      const outbox = suite.outbox({ publisher });
      const total = Math.round((200 * cycles) / 3);
      let position = 0n;
      let passed = 0;
      let done = false;
      // The control: select what is beyond the position, remember the last. What is deleted by the relay is counted below.
      const copy = 'outbox_seen';
      await suite.db.knex.schema.dropTableIfExists(copy);
      await suite.db.knex.schema.createTable(copy, (t) => {
        t.bigIncrements('id');
        t.integer('n');
      });
      const naive = (async () => {
        const seen = new Set<number>();
        while (!done || seen.size === 0) {
          const rows = await suite.db.knex(copy).where('id', '>', position.toString()).orderBy('id').select('id', 'n');
          for (const { id, n } of rows) {
            seen.add(Number(n));
            position = BigInt(id);
          }
          await wait(5);
        }
        await wait(50);
        passed = total - seen.size;
      })();
      const relay = suite.use(outbox.relay());
      await relay.start();
      let next = 0;
      await Promise.all(
        Array.from({ length: 8 }, async () => {
          while (next < total) {
            const n = next++;
            await suite.db.knex.transaction(async (trx) => {
              await outbox.in(trx).put('keyed', { k: `k${n}`, n });
              await trx(copy).insert({ n });
              // Long and short transactions at the same time: low ids commit after high ones.
              await wait(n % 8 === 0 ? 120 : 5);
            });
          }
        }),
      );
      done = true;
      await until(() => new Set(publisher.acked.map(({ id }) => id)).size === total, { withinMs: 10_000 });
      await naive;
      expect(passed).toBeGreaterThan(0);
    }, 120_000);

    it('come in the order of the commits where that is asked for', async () => {
      const publisher = new Recorder();
      const outbox = suite.outbox({
        publisher,
        topics: { strict: topic(schemaOf<{ k: string; n: number }>(), { key: ({ k }) => k, order: 'commit' }) },
      });
      const relay = suite.use(outbox.relay());
      await relay.start();
      const inOrder: number[] = [];
      let inside = 0;
      let overlaps = 0;
      await Promise.all(
        Array.from({ length: 8 }, async (_, n) => {
          await wait(n * 5);
          await suite.db.knex.transaction(async (trx) => {
            await outbox.in(trx).put('strict', { k: 'one', n });
            // From a put to its commit no other put of the key returns: the order of the puts is that of the commits.
            inOrder.push(n);
            if (++inside > 1) overlaps += 1;
            await wait(40 - n * 4);
            inside -= 1;
          });
        }),
      );
      await until(() => publisher.acked.length === 8);
      expect(publisher.byKey().get('one')).toEqual(inOrder);
      expect(overlaps).toBe(0);
    });
  },
  ['postgres', 'mariadb', 'mysql'],
);
