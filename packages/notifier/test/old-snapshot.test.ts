import { TransientDatabaseError } from '@holdfast/core';
import { expect, it } from 'vitest';
import type { NotifierTransaction } from '../src/index.ts';
import { event, onEveryDatabase } from './suite.ts';

onEveryDatabase(
  'a transaction whose snapshot is older than the purge of an event',
  (suite) => {
    it.each(['trigger', 'triggerMany'] as const)('does not notify of it again by %s', async (call) => {
      const notifier = suite.notifier({ keep: '1h' });
      const [one, other] = [event('https://8.8.8.8/'), event('https://8.8.8.8/')];
      const { id } = await notifier.now().trigger(one);
      const again = async (calls: NotifierTransaction) =>
        call === 'trigger' ? [await calls.trigger(one)] : (await calls.triggerMany([one, other])).slice(0, 1);
      let purged = 0;
      const once = () =>
        suite.db.knex.transaction(
          async (trx) => {
            await trx('holdfast_once').count();
            await suite.db.connect()('notifier_notification').where({ id }).update({ state: 'DELIVERED', ended_at: 1, due_at: null });
            purged += await notifier.purge();
            return again(notifier.in(trx));
          },
          { isolationLevel: 'repeatable read' },
        );
      // PostgreSQL can't show the transaction what is newer than its snapshot: it must run again.
      const result = await once().catch((error: unknown) => {
        expect(error).toBeInstanceOf(TransientDatabaseError);
        return once();
      });
      expect([purged, result]).toEqual([1, [{ id, duplicate: true, conflict: false }]]);
    });
  },
  ['postgres', 'mysql', 'mariadb'],
);
