import { coreSchema, migrate, silentLogger } from '@holdfast/core';
import { testDialects } from '@holdfast/core/testing';
import { describe, expect, it } from 'vitest';
import { createNotifier, notifierSchema } from '../src/index.ts';
import { event } from './suite.ts';
import { keys } from './suite-keys.ts';

describe.each(testDialects())('tables of a version before targets, on $name', (dialect) => {
  it('are brought up to date with their rows, also by a migration that was interrupted', async () => {
    const db = await dialect.create();
    try {
      const before = { ...notifierSchema, migrations: notifierSchema.migrations.slice(0, 3) };
      await migrate(db.knex, [coreSchema, before]);
      await db.knex('notifier_endpoint').insert({ tenant: '', origin: 'https://8.8.8.8' });
      const { id: endpoint_id } = await db.knex('notifier_endpoint').first('id');
      const url = 'https://8.8.8.8/hook';
      await db.knex('notifier_notification').insert({
        endpoint_id,
        created_at: 1,
        due_at: 1,
        tenant: '',
        subject_id: 'old',
        status: 'POWER_ON',
        webhook_id: 'msg_1',
        url,
        content_type: 'application/json',
        key_ref: 'k',
        params: '{"n":1}',
      });
      for (let run = 0; run < 2; run++) {
        expect(await migrate(db.knex, [coreSchema, notifierSchema])).toEqual({ core: [], notifier: ['0004_targets'] });
        await db.knex('holdfast_notifier_migrations').where({ name: '0004_targets' }).delete();
      }
      await migrate(db.knex, [coreSchema, notifierSchema]);
      await using notifier = createNotifier({ knex: db.knex, logger: silentLogger, keys: (ref) => keys[ref] });
      const { id } = await db.knex('notifier_notification').first('id');
      const old = event(url, { subjectId: 'old', payload: { n: 1 } });
      expect(await notifier.now().trigger(old)).toEqual({ id: String(id), duplicate: true, conflict: false });
      expect(await notifier.now().trigger({ ...old, url: `${url}/other` })).toMatchObject({ duplicate: false });
      expect(await notifier.endpoints.get(String(endpoint_id))).toMatchObject({
        url: null,
        events: [],
        disabled: false,
        failingSince: null,
      });
    } finally {
      await db.drop();
    }
  });
});
