// A consumer that tests kill. Arguments: the database's address, with or without the inbox, the checkpoint to die at, and at which time
// it is reached.

import { databaseBroker } from '@holdfast/broker/database';
import { every, setCheckpointHook, silentLogger } from '@holdfast/core';
import { connectTestDatabase } from '@holdfast/core/testing';
import { createInbox } from '../../src/index.ts';

const [address = '', mode = 'inbox', dieAt = '', hits = '1'] = process.argv.slice(2);
let left = Number(hits);
const reached = (name: string): void => {
  if (name === dieAt && --left === 0) process.kill(process.pid, 'SIGKILL');
};
if (dieAt !== '') setCheckpointHook(reached);
const knex = connectTestDatabase(address);
const broker = databaseBroker({ knex, leaseMs: 600, logger: silentLogger });
const inbox = createInbox({ knex, logger: silentLogger });
if (mode === 'inbox') {
  await inbox.consume({
    subscriber: broker,
    topic: 'orders',
    consumer: 'billing',
    concurrency: 4,
    retry: every(20),
    maxStarts: 50,
    handler: async (message, trx) => {
      if (message.id === 'poison') process.kill(process.pid, 'SIGKILL');
      await trx('effects').insert({ message_id: message.id });
    },
  });
} else {
  // The control: the effect commits by itself, and the broker is told afterwards.
  await broker.subscribe(['orders'], { group: 'billing', concurrency: 4 }, async ({ message }) => {
    await knex('effects').insert({ message_id: message.id });
    reached('inbox:committed');
    return { outcome: 'ack' };
  });
}
