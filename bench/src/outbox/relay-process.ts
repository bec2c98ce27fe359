// A relay in a process of its own, which prints the id of each message when the broker has it.

import { silentLogger } from '@holdfast/core';
import { connectTestDatabase } from '@holdfast/core/testing';
import { createOutbox, topic } from '@holdfast/outbox';
import { openBroker } from './servers.ts';

const [address = '', kind = '', broker = '', name = ''] = process.argv.slice(2);
const anything = { '~standard': { version: 1 as const, vendor: 'bench', validate: (value: unknown) => ({ value }) } };
const outbox = createOutbox({
  knex: connectTestDatabase(address),
  publisher: openBroker(kind, broker),
  topics: { [name]: topic(anything) },
  logger: silentLogger,
});
const relay = outbox.relay();
relay.events.on('message:published', ({ id }) => process.stdout.write(`${id}\n`));
await relay.start();
process.stdout.write('ready\n');
process.on('SIGTERM', () => process.exit(0));
