import { reject, type Subscriber } from '@holdfast/broker';
import type { Logger } from '@holdfast/core';
import { type Consumption, createInbox, type Inbox } from '@holdfast/outbox';
import type { Knex } from 'knex';
import { jsonOf } from './feed.ts';
import { assetLease } from './topics.ts';

/** Another service, which keeps its own list of who has which machine. It knows nothing of ours but the topic. */
export class AssetService {
  readonly #inbox: Inbox;
  readonly #subscriber: Subscriber;
  #consumption: Consumption | undefined;

  constructor(knex: Knex, subscriber: Subscriber, logger: Logger) {
    this.#inbox = createInbox({ knex, logger });
    this.#subscriber = subscriber;
  }

  async start(): Promise<void> {
    this.#consumption = await this.#inbox.consume({
      subscriber: this.#subscriber,
      topic: 'asset.lease.v1',
      consumer: 'asset-service',
      handleMany: async (messages, trx) => {
        for (const message of messages) {
          const parsed = assetLease.safeParse(jsonOf(message));
          if (!parsed.success) return reject('not what asset.lease.v1 carries');
          const { machineId, applyId, epoch, active, atMs } = parsed.data;
          const values = { apply_id: applyId, epoch, active: active ? 1 : 0, at_ms: atMs };
          const known = await trx('asset_lease').where({ machine_id: machineId }).first('epoch');
          if (!known)
            await trx('asset_lease')
              .insert({ machine_id: machineId, ...values })
              .onConflict('machine_id')
              .ignore();
          // What is said of an older lease does not count any more.
          else if (Number(known.epoch) <= epoch) await trx('asset_lease').where({ machine_id: machineId }).update(values);
        }
        return undefined;
      },
    });
  }

  async stop(): Promise<void> {
    await this.#consumption?.close();
    await this.#inbox.close();
  }
}
