import type { Subscriber } from '@holdfast/broker';
import type { Logger } from '@holdfast/core';
import { type Consumption, createInbox, type Inbox } from '@holdfast/outbox';
import type { Knex } from 'knex';
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
      handler: async (message, trx) => {
        const lease = assetLease.parse(JSON.parse(Buffer.from(message.body).toString()));
        await trx('asset_lease').where({ machine_id: lease.machineId }).delete();
        if (lease.active) await trx('asset_lease').insert({ machine_id: lease.machineId, apply_id: lease.applyId, since_ms: lease.atMs });
      },
    });
  }

  async stop(): Promise<void> {
    await this.#consumption?.close();
    await this.#inbox.close();
  }
}
