import { Redis } from 'ioredis';
import { serviceFolder, startDetached } from './process-record.ts';
import type { Service } from './service.ts';

export const redis: Service = {
  name: 'redis',
  variable: 'HOLDFAST_REDIS_URL',
  packages: ['redis-server'],
  binaries: ['/usr/bin/redis-server'],
  stopSignal: 'SIGTERM',
  url: (port) => `redis://127.0.0.1:${port}`,
  async start(port, name) {
    startDetached(name, port, '/usr/bin/redis-server', [
      '--port',
      String(port),
      '--bind',
      '127.0.0.1',
      '--dir',
      serviceFolder(name),
      '--appendonly',
      'yes',
    ]);
  },
  async roundTrip(url) {
    const client = new Redis(url, { lazyConnect: true, retryStrategy: () => null });
    client.on('error', () => {
      // Reported by the call below.
    });
    try {
      await client.connect();
      await client.set('holdfast:check', 'ok', 'EX', 10);
      if ((await client.get('holdfast:check')) !== 'ok') throw new Error('the value written was not read back');
    } finally {
      client.disconnect();
    }
  },
};
