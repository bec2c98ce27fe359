import { type ThroughProxy, throughProxy, until } from '@holdfast/core/testing';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Triggered } from '../src/index.ts';
import { event, onEveryDatabase } from './suite.ts';

const cycles = Number(process.env.HOLDFAST_CYCLES ?? 3);

onEveryDatabase(
  'a trigger whose COMMIT is answered to nobody',
  (suite) => {
    let through: ThroughProxy;
    beforeAll(async () => {
      through = await throughProxy(suite.db.address);
    });
    afterAll(() => through?.close());

    it('is one notification when it is tried again, also after the first was delivered', async () => {
      const receiver = await suite.receiver();
      const { knex, proxy } = through;
      const [cuttable, direct] = [suite.notifier({ knex }), suite.notifier()];
      await suite.use(direct.worker()).start();
      const total = cycles * 10;
      for (let n = 0; n < total; n++) {
        const one = event(receiver.url);
        let committing = false;
        const once = (cut: boolean) =>
          knex.transaction(async (trx) => {
            const triggered = await cuttable.in(trx).trigger(one);
            // COMMIT reaches the server, which does it; the caller hears of an error.
            if (cut) proxy.cutReplyAfter(0);
            committing = cut;
            return triggered;
          });
        // The trigger may meet an idle connection that the last cut has left: then it is tried again.
        while (!committing) await expect(once(true)).rejects.toThrow();
        if (n % 2 === 0) await until(() => receiver.requests.length === n + 1);
        // The pool's other connections are cut as well; a caller tries again until it is answered.
        let again: Triggered | undefined;
        while (!again) again = await once(false).catch(() => undefined);
        expect(again).toMatchObject({ duplicate: true, conflict: false });
      }
      await until(async () => (await suite.db.knex('notifier_notification').where({ state: 'DELIVERED' })).length === total);
      expect(await suite.db.knex('notifier_notification')).toHaveLength(total);
      expect(receiver.requests).toHaveLength(total);
    }, 120_000);
  },
  ['postgres', 'mariadb', 'mysql'],
);
