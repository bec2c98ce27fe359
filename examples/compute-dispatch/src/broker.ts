import type { Publisher, Subscriber } from '@holdfast/broker';
import { databaseBroker } from '@holdfast/broker/database';
import { platformaticKafka } from '@holdfast/broker/platformatic-kafka';
import { rabbitmq } from '@holdfast/broker/rabbitmq';
import type { Logger } from '@holdfast/core';
import { Admin } from '@platformatic/kafka';
import type { Knex } from 'knex';
import { allTopics } from './topics.ts';

/** The broker that `DISPATCH_BROKER_URL` names; without one, a table in the service's own database. */
export async function openBroker(url: string | undefined, knex: Knex, logger: Logger): Promise<Publisher & Subscriber> {
  return url === undefined ? databaseBroker({ knex, logger, source: 'compute-dispatch' }) : createBroker(url, 'compute-dispatch', logger);
}

/** Opens the broker at an address. `source` names this service in its messages. */
export async function createBroker(url: string, source: string, logger: Logger): Promise<Publisher & Subscriber> {
  if (/^amqps?:/.test(url)) return rabbitmq({ url, logger, source, lanes: 4 });
  const brokers = url.replace(/^kafka:\/\//, '').split(',');
  await createTopics(brokers, logger);
  return platformaticKafka({ brokers, logger, source });
}

/** Creates the topics, for a demonstration, if the broker allows it. In production the operator creates them. */
async function createTopics(brokers: readonly string[], logger: Logger): Promise<void> {
  const admin = new Admin({ clientId: 'compute-dispatch', bootstrapBrokers: [...brokers], retries: 1 });
  try {
    const there = new Set(await admin.listTopics());
    const missing = allTopics.flatMap((name) => [name, `${name}.dead`]).filter((name) => !there.has(name));
    if (missing.length > 0) await admin.createTopics({ topics: missing, partitions: 4, replicas: 1 });
  } catch (err) {
    logger.warn({ err }, 'topics were not created; if they do not exist, messages wait in the outbox');
  } finally {
    await admin.close().catch(() => undefined);
  }
}
