import { chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from 'amqplib';
import { debianFolder } from './debian-folder.ts';
import { type Home, thisMachine } from './home.ts';
import { lane } from './lane.ts';
import { freePort, serviceFolder } from './process-record.ts';
import type { Service } from './service.ts';

const binary = '/usr/lib/rabbitmq/bin/rabbitmq-server';

const rabbitmqServer = (name: string, addressVariable: string, home: Home): Service => ({
  ...home,
  name,
  variable: 'HOLDFAST_RABBITMQ_URL',
  addressVariable,
  stopSignal: 'SIGTERM',
  url: (port) => `amqp://guest:guest@127.0.0.1:${port}`,
  async start(port, name) {
    const folder = serviceFolder(name);
    const owner = home.account('rabbitmq');
    for (const name of ['', 'mnesia', 'log']) {
      mkdirSync(join(folder, name), { recursive: true });
      chownSync(join(folder, name), owner.uid, owner.gid);
    }
    writeFileSync(join(folder, 'rabbitmq.conf'), `listeners.tcp.1 = 127.0.0.1:${port}\nlog.console = false\n`);
    writeFileSync(join(folder, 'enabled_plugins'), '[].\n');
    const [epmd, distribution] = [await freePort(), await freePort()];
    const env = {
      PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
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
    // Without a running epmd, RabbitMQ starts one as a daemon, which would outlive it. This epmd belongs to its group and ends with it.
    const script = 'epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" & exec /usr/lib/rabbitmq/bin/rabbitmq-server';
    home.start(name, port, '/bin/sh', ['-c', script], owner, env);
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
      return (connection.connection.serverProperties as { version?: string }).version;
    } finally {
      await connection.close();
    }
  },
});

/** RabbitMQ of this machine's suite: 3.10 on Debian 12. */
const rabbitmq3 = rabbitmqServer('rabbitmq', 'HOLDFAST_RABBITMQ_URL', thisMachine(['rabbitmq-server'], [binary]));

const rabbitmq4 = rabbitmqServer(
  'rabbitmq-4',
  'HOLDFAST_RABBITMQ_4_URL',
  debianFolder({ suite: 'sid', package: 'rabbitmq-server', binary }),
);

/** The one of this lane. */
export const rabbitmq: Service = lane === 'newer' ? rabbitmq4 : rabbitmq3;
