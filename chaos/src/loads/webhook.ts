import { createHash } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { coreSchema, every, silentLogger, wait } from '@holdfast/core';
import { createNotifier, type Notifier, type NotifierOptions, notifierSchema } from '@holdfast/notifier';
import { verifyWebhook } from '@holdfast/notifier/verify';
import type { Knex } from 'knex';
import { insist, type Load, leaseMs, tally, type VictimSide, type World } from './load.ts';

const key = `whsec_${Buffer.alloc(24, 1).toString('base64')}`;
let server: Server | undefined;

function open(knex: Knex, port: number, options: Partial<NotifierOptions>): Notifier {
  return createNotifier({
    knex,
    keys: () => key,
    schedule: every('200ms').upTo(1_000),
    egress: { allowHttp: true, allowCidrs: ['127.0.0.0/8'], allowPorts: [port] },
    logger: silentLogger,
    ...options,
  });
}

/** The receiver: it takes effect, and sometimes loses the answer afterwards or fails before. */
async function receiver(world: World): Promise<number> {
  server = createServer((request, response) => {
    void (async () => {
      const dice = world.random();
      if (dice < 0.1) {
        request.resume();
        response.writeHead(503).end();
        return;
      }
      const { id, body, json } = await verifyWebhook(request, { keys: [key] });
      const { n } = json() as { n: string };
      const bytes = createHash('sha256').update(body).digest('hex').slice(0, 12);
      await world.oracle.notes.note('effect', [`${n} ${id} ${bytes}`]);
      if (dice < 0.2) {
        world.count('answers lost');
        request.socket.destroy();
      } else response.end('success');
    })().catch(() => {
      world.count('not verified');
      response.destroy();
    });
  });
  await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve));
  return listeningPort();
}

function listeningPort(): number {
  const address = server?.address() as AddressInfo | null | undefined;
  if (!address) throw new Error('The receiver is made in port().');
  return address.port;
}

/**
 * Events are triggered, and retried until they are accepted. A receiver verifies them, takes effect, and loses one answer of ten. Each event
 * is one notification, which is received at least once, always under the same id and with the same bytes.
 */
export const webhookLoad: Load = {
  name: 'webhook',
  schemas: [coreSchema, notifierSchema],
  checkpoints: [
    { name: 'route:before' },
    { name: 'work:after-claim' },
    { name: 'attempt:after-start', hits: 3 },
    { name: 'attempt:before-send', hits: 3 },
    { name: 'attempt:after-send', hits: 3 },
    { name: 'attempt:before-end', hits: 3 },
    { name: 'attempt:after-end', hits: 3 },
    { name: 'work:before-settle' },
    { name: 'work:after-settle' },
  ],
  controls: [{ mode: 'believe', dieAt: 'attempt:after-end', sees: 'lost' }],
  prepare: async () => undefined,
  port: receiver,
  async feed(world, signal) {
    const port = listeningPort();
    const notifier = open(world.service, port, { statementTimeout: world.statementTimeout });
    const one = async (feeder: number): Promise<void> => {
      for (let i = 0; !signal.aborted; i++) {
        const n = `${feeder}-${i}`;
        const event = { subjectId: n, status: 'PAID', url: `http://127.0.0.1:${port}/`, keyRef: 'k', payload: { n } };
        // A new endpoint for every ten notifications: an endpoint is created with its first one, and settled after its last one.
        const tenant = `${feeder}-${Math.floor(i / 10)}`;
        const taken = await insist(world, signal, () => notifier.now().trigger({ ...event, tenant }));
        if (taken) await world.oracle.notes.note('accepted', [n]);
        await wait(10);
      }
    };
    try {
      await Promise.all([0, 1, 2, 3].map(one));
    } finally {
      await notifier.close();
    }
  },
  async quiet({ knex }) {
    const [row] = await knex('notifier_notification').whereIn('state', ['PENDING']).count({ n: '*' });
    return Number(row?.n) === 0;
  },
  async judge({ knex, oracle }) {
    const accepted = oracle.read('accepted');
    const heard = oracle.read('effect').map((line) => line.split(' '));
    const times = tally(heard.map(([n = '']) => n));
    // For each event, its ids and the bytes sent under them.
    const kinds = tally([...new Set(heard.map((parts) => parts.join(' ')))].map((line) => line.split(' ')[0] ?? ''));
    const twice = await knex('notifier_notification').select('subject_id').groupBy('subject_id').havingRaw('count(*) > 1');
    return {
      accepted: accepted.length,
      effects: times.size,
      lost: accepted.filter((n) => !times.has(n)).length,
      duplicated: twice.length,
      repeated: [...times.values()].filter((n) => n > 1).length,
      wrong: [...kinds.values()].filter((n) => n > 1).length,
    };
  },
  async end() {
    server?.closeAllConnections();
    await new Promise((resolve) => (server ? server.close(resolve) : resolve(undefined)));
    server = undefined;
  },
};

export const webhookVictim: VictimSide = async ({ port, mode, statementTimeout }, knex) => {
  // Broken on purpose: any answer counts as an acknowledgement.
  const notifier = open(knex, port, { statementTimeout, ...(mode === 'believe' ? { ack: () => true } : {}) });
  const worker = notifier.worker({ lease: leaseMs });
  await worker.start();
  return {
    async stop() {
      await worker.stop();
      await notifier.close();
    },
  };
};
