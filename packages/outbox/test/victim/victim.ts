// A process that tests kill: a relay, or one that puts. Arguments: the database's address, what to do, the file that stands for the
// broker, the checkpoint to die at, and at which time it is reached.

import { appendFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Message, Publisher, PublishResult } from '@holdfast/broker';
import { every, setCheckpointHook, silentLogger } from '@holdfast/core';
import { connectTestDatabase } from '@holdfast/core/testing';
import { createOutbox } from '../../src/index.ts';
import { topics } from '../suite.ts';

const [address = '', mode = 'relay', broker = '', dieAt = '', hits = '1'] = process.argv.slice(2);
let left = Number(hits);
if (dieAt !== '') {
  setCheckpointHook((name) => {
    if (name === dieAt && --left === 0) process.kill(process.pid, 'SIGKILL');
  });
}

/** Keeps what it acks in a file that outlives this process. One line per message, one write per batch. */
const publisher: Publisher = {
  prefixPerKey: mode === 'relay-prefix',
  async publish(batch: readonly Message[]) {
    const refused = new Set(batch.filter(({ key }) => refuses(key)));
    const lines = batch
      .filter((message) => !refused.has(message))
      .map(({ id, key, body }) => `${id} ${key ?? '-'} ${(JSON.parse(Buffer.from(body).toString()) as { n: number }).n}\n`)
      .join('');
    const write = (): void => appendFileSync(broker, lines);
    // The control acks before it has anything: what is under way at a kill must then be lost, or the test proves nothing.
    if (mode === 'ack-early') setTimeout(write, 30);
    else {
      await sleep(1);
      write();
    }
    return batch.map(
      (message): PublishResult =>
        refused.has(message) ? { outcome: 'retriable', error: { name: 'Error', message: 'refused' } } : { outcome: 'acked', at: {} },
    );
  },
  async close() {
    // Nothing is open.
  },
};
/** Some keys fail now and then, so that holds are killed, too. */
function refuses(key: string | undefined): boolean {
  return key?.endsWith('7') === true && Math.random() < 0.5;
}

const knex = connectTestDatabase(address);
const outbox = createOutbox({ knex, publisher, topics, logger: silentLogger });
if (mode === 'writer') {
  // Orders and messages in one transaction, killed anywhere: one without the other must not be.
  for (let n = 0; ; n++) {
    const id = `${process.pid}-${n}`;
    await knex.transaction(async (trx) => {
      await trx('orders').insert({ id });
      if (dieAt === 'writer:before-put' && --left === 0) process.kill(process.pid, 'SIGKILL');
      await outbox.in(trx).put('keyed', { k: id, n });
      if (dieAt === 'writer:before-commit' && --left === 0) process.kill(process.pid, 'SIGKILL');
    });
    if (dieAt === 'writer:after-commit' && --left === 0) process.kill(process.pid, 'SIGKILL');
  }
} else {
  const relay = outbox.relay({ lease: '1s', publishTimeout: '300ms', batch: 100, hold: every('100ms') });
  await relay.start();
  process.stdout.write('started\n');
  process.on('SIGTERM', () => {
    void (async () => {
      await relay.stop();
      await outbox.close();
      await knex.destroy();
      process.exit(0);
    })();
  });
}
