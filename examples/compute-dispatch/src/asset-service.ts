import type { Subscriber } from '@holdfast/broker';
import type { Logger } from '@holdfast/core';
import type { Knex } from 'knex';
import type { z } from 'zod';
import { Listener } from './listener.ts';
import { assetLease } from './topics.ts';

/** Another service, which keeps its own list of the machines and their holders. It knows only the topic of this service. */
export function assetService(knex: Knex, subscriber: Subscriber, logger: Logger): Listener<z.infer<typeof assetLease>> {
  return new Listener({
    knex,
    subscriber,
    logger,
    consumer: 'asset-service',
    topics: { 'asset.lease.v1': assetLease },
    hear: async (heard, trx) => {
      for (const { body } of heard) {
        const { machineId, applyId, epoch, active, atMs } = body;
        const values = { apply_id: applyId, epoch, active: active ? 1 : 0, at_ms: atMs };
        const known = await trx('asset_lease').where({ machine_id: machineId }).first('epoch');
        if (!known)
          await trx('asset_lease')
            .insert({ machine_id: machineId, ...values })
            .onConflict('machine_id')
            .ignore();
        // A message of an older lease no longer counts.
        else if (Number(known.epoch) <= epoch) await trx('asset_lease').where({ machine_id: machineId }).update(values);
      }
    },
  });
}
