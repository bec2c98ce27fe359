import { chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from 'amqplib';
import { account } from './debian.ts';
import { freePort, serviceFolder, startDetached } from './process-record.ts';
import type { Service } from './service.ts';

export const rabbitmq: Service = {
  name: 'rabbitmq',
  variable: 'HOLDFAST_RABBITMQ_URL',
  packages: ['rabbitmq-server'],
  binaries: ['/usr/lib/rabbitmq/bin/rabbitmq-server'],
  stopSignal: 'SIGTERM',
  url: (port) => `amqp://guest:guest@127.0.0.1:${port}`,
  async start(port, name) {
    const folder = serviceFolder(name);
    const owner = account('rabbitmq');
    for (const name of ['', 'mnesia', 'log']) {
      mkdirSync(join(folder, name), { recursive: true });
      chownSync(join(folder, name), owner.uid, owner.gid);
    }
    writeFileSync(join(folder, 'rabbitmq.conf'), `listeners.tcp.1 = 127.0.0.1:${port}\nlog.console = false\n`);
    writeFileSync(join(folder, 'enabled_plugins'), '[].\n');
    const [epmd, distribution] = [await freePort(), await freePort()];
    const env = {
      PATH: process.env.PATH ?? '',
      HOME: folder,
      RABBITMQ_NODENAME: `holdfast-${port}@localhost`,
      RABBITMQ_MNESIA_BASE: join(folder, 'mnesia'),
      RABBITMQ_LOG_BASE: join(folder, 'log'),
      RABBITMQ_CONFIG_FILE: join(folder, 'rabbitmq.conf'),
      RABBITMQ_ENABLED_PLUGINS_FILE: join(folder, 'enabled_plugins'),
      RABBITMQ_DIST_PORT: String(distribution),
      ERL_EPMD_PORT: String(epmd),
      ERL_EPMD_ADDRESS: '127.0.0.1',
      RABBITMQ_CTL_ERL_ARGS: '',
      RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: `-start_epmd false -erl_epmd_port ${distribution}`,
      LANG: 'C.UTF-8',
    };
    // RabbitMQ starts an epmd daemon where it finds none, which would outlive it. This one belongs to its group and ends with it.
    const script = 'epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" & exec /usr/lib/rabbitmq/bin/rabbitmq-server';
    startDetached(name, port, '/bin/sh', ['-c', script], { ...owner, env });
  },
  async roundTrip(url) {
    const connection = await connect(url, { timeout: 3000 });
    connection.on('error', () => {
      // Reported by the call that fails.
    });
    try {
      const channel = await connection.createConfirmChannel();
      const { queue } = await channel.assertQueue('', { exclusive: true });
      channel.sendToQueue(queue, Buffer.from('ok'));
      await channel.waitForConfirms();
      const message = await channel.get(queue, { noAck: true });
      if (message === false || message.content.toString() !== 'ok') throw new Error('the message sent was not received');
    } finally {
      await connection.close();
    }
  },
};
