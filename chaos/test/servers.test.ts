import { testDialects } from '@holdfast/core/testing';
import { afterAll, beforeAll, describe, it } from 'vitest';
import { mariadb } from '../../tooling/services/mariadb.ts';
import { postgres } from '../../tooling/services/postgres.ts';
import { type ScratchServer, scratchServer } from '../../tooling/services/scratch.ts';
import { holds, lanesOf } from './short.ts';

/** Servers of their own: they are killed. */
describe.each([postgres, mariadb].filter(({ variable }) => process.env[variable]))('a database that is unsteady: $name', (service) => {
  let server: ScratchServer;
  beforeAll(async () => {
    server = await scratchServer(service, `${service.name}-chaos-short`);
  }, 180_000);
  afterAll(() => server?.stop());

  it.each(lanesOf('endSessions', 'restartServer', 'network'))(
    '%s: no process ends, nothing is lost, nothing is there twice',
    async (_, lane) => {
      const dialect = testDialects({ [service.variable]: server.url }).find(({ name }) => name === service.name);
      if (dialect) await holds(lane, { dialect, server, cycles: Math.ceil(lane.cycles / 2) });
    },
    300_000,
  );
});
