import { TransientDatabaseError, wait } from '@holdfast/core';
import type { Knex } from 'knex';
import { expect, it } from 'vitest';
import { bizType, type CompensateBiz, type SubmitOptions } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';
import { any } from './suite-schema.ts';

onEveryDatabase(
  'a transaction whose snapshot is older than the rows',
  (suite) => {
    const types = { plain: bizType(any), gone: bizType(any, { keep: 'none' }) };
    const pending = (key: string): SubmitOptions => ({ once: { key, while: 'pending' } });
    const rows = (context: object) =>
      suite.db
        .knex('compensate_biz')
        .where({ context: JSON.stringify(context) })
        .orderBy('id');
    const end = (id: string, status = 'SUCCESS') => suite.db.connect()('compensate_biz').where({ id }).update({ status });

    /** Calls `work` in a REPEATABLE READ transaction that has read the table before `meanwhile`. Runs it again after a conflict. */
    async function late<T>(meanwhile: () => Promise<unknown>, work: (trx: Knex.Transaction) => Promise<T>): Promise<T> {
      let first = true;
      const once = () =>
        suite.db.knex.transaction(
          async (trx) => {
            await trx('compensate_biz').count();
            await trx('holdfast_once').count();
            if (first) await meanwhile();
            first = false;
            return work(trx);
          },
          { isolationLevel: 'repeatable read' },
        );
      return once().catch((error: unknown) => {
        expect(error).toBeInstanceOf(TransientDatabaseError);
        expect((error as Error).message).toMatch(/^The transaction conflicted with another: .*Run it again from its start/);
        return once();
      });
    }

    it.each([
      ['has ended', 'SUCCESS', pending('ended')],
      ['was cancelled', 'CANCELLED', pending('cancelled')],
      ['was cancelled, under a key with a window', 'CANCELLED', { once: 'windowed' }],
    ] as const)('writes another row if the row of a key %s since', async (name, status, options) => {
      const biz = suite.create(types);
      const first = await biz.now().submit('plain', { name }, options);
      const later = await late(
        () => end(first.id, status),
        (trx) => biz.in(trx).submit('plain', { name, again: true }, options),
      );
      expect(later).toEqual({ id: expect.not.stringMatching(`^${first.id}$`), duplicate: false });
      expect(await rows({ name, again: true })).toHaveLength(1);
    });

    it('writes another row if the row of a key was deleted since', async () => {
      const biz = suite.create(types);
      const first = await biz.now().submit('gone', { n: 1 }, pending('deleted'));
      const later = await late(
        () => suite.db.connect()('compensate_biz').where({ id: first.id }).delete(),
        (trx) => biz.in(trx).submit('gone', { n: 2 }, pending('deleted')),
      );
      expect(later.duplicate).toBe(false);
    });

    it.each([
      ['was submitted', async () => undefined],
      ['was submitted in place of one that had ended', (id: string) => end(id)],
    ])('writes no second row if that of a key %s since', async (name, before) => {
      const biz = suite.create(types);
      const options = pending(name);
      if (name.includes('place')) await before((await biz.now().submit('plain', { name, n: 0 }, options)).id);
      let there: { readonly id: string } | undefined;
      const later = await late(
        async () => (there = await biz.now().submit('plain', { name }, options)),
        (trx) => biz.in(trx).submit('plain', { name }, options),
      );
      expect(later).toEqual({ id: there?.id, duplicate: true });
      expect(await rows({ name })).toHaveLength(1);
    });

    it('goes by what it did itself', async () => {
      const biz = suite.create(types);
      const outer = await biz.now().submit('plain', { own: 0 }, pending('own'));
      const ids = await suite.db.knex.transaction(
        async (trx) => {
          const duplicate = await biz.in(trx).submit('plain', { own: 1 }, pending('own'));
          expect(await biz.in(trx).cancel({ type: 'plain', once: 'own' })).toBe(true);
          const own = await biz.in(trx).submit('plain', { own: 2 }, pending('own'));
          const second = await biz.in(trx).submit('plain', { own: 3 }, pending('own'));
          expect([duplicate.id, own.duplicate, second]).toEqual([outer.id, false, { id: own.id, duplicate: true }]);
          expect(await biz.in(trx).cancel({ type: 'plain', once: 'own' })).toBe(true);
          return own.id;
        },
        { isolationLevel: 'repeatable read' },
      );
      expect((await suite.db.knex('compensate_biz').where({ id: ids }).first()).status).toBe('CANCELLED');
    });

    it('cancels the row that a key has now', async () => {
      const biz = suite.create(types);
      const first = await biz.now().submit('plain', { key: 1 }, pending('now'));
      let second: { readonly id: string } | undefined;
      const cancelled = await late(
        async () => {
          await end(first.id);
          second = await biz.now().submit('plain', { key: 2 }, pending('now'));
        },
        (trx) => biz.in(trx).cancel({ type: 'plain', once: 'now' }),
      );
      expect(cancelled).toBe(true);
      expect((await suite.db.knex('compensate_biz').where({ id: second?.id }).first()).status).toBe('CANCELLED');
      const unknown = await late(
        async () => biz.now().submit('plain', { key: 3 }, pending('unknown')),
        (trx) => biz.in(trx).cancel({ type: 'plain', once: 'unknown' }),
      );
      expect(unknown).toBe(true);
    });

    it('does not hold up the submits of others when the row that it names, or that its key has, is not there', async () => {
      const biz: CompensateBiz<typeof types> = suite.create(types);
      const options: SubmitOptions = { once: { key: 'purged', replace: true } };
      const { id } = await biz.now().submit('gone', {}, options);
      await suite.db.knex('compensate_biz').where({ id }).delete();
      await suite.db.knex.transaction(
        async (trx) => {
          expect(await biz.in(trx).cancel({ id: '999999999' })).toBe(false);
          expect(await biz.in(trx).reschedule({ id: '999999998' }, 1)).toBe(false);
          expect(await biz.in(trx).submit('gone', {}, options)).toEqual({ id, duplicate: true, earlier: 'ended' });
          const other = biz.now().submit('plain', {});
          expect(await Promise.race([other.then(() => 'submitted'), wait(2_000).then(() => 'waits for the transaction')])).toBe(
            'submitted',
          );
        },
        { isolationLevel: 'repeatable read' },
      );
    });
  },
  ['postgres', 'mysql', 'mariadb'],
);
