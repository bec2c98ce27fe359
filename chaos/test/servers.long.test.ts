import { testDialects } from '@holdfast/core/testing';
import { afterAll, beforeAll, describe, it } from 'vitest';
import { mariadb } from '../../tooling/services/mariadb.ts';
import { mysql } from '../../tooling/services/mysql.ts';
import { postgres } from '../../tooling/services/postgres.ts';
import { type ScratchServer, scratchServer } from '../../tooling/services/scratch.ts';
import { holds, lanesOf } from './short.ts';

/** Servers of their own: they are killed. */
const databases = testDialects().map(({ name }) => name);
const servers = Object.entries({ postgres, mysql, mariadb })
  .filter(([name]) => databases.includes(name as (typeof databases)[number]))
  .map(([name, service]) => ({ name, service }));
if (servers.length === 0) it.skip('a database that is unsteady: no server is up', () => undefined);

describe.each(servers)('a database that is unsteady: $name', ({ name: dialectName, service }) => {
  let server: ScratchServer;
  beforeAll(async () => {
    server = await scratchServer(service, `${service.name}-chaos-short`);
  }, 180_000);
  afterAll(() => server?.stop());

  it.each(lanesOf('endSessions', 'restartServer', 'network'))(
    '%s: no process ends, nothing is lost, nothing is there twice',
    async (_, lane) => {
      const dialect = testDialects({ [service.variable]: server.url }).find(({ name }) => name === dialectName);
      if (!dialect) throw new Error(`There is no test dialect ${dialectName}.`);
      await holds(lane, { dialect, server, cycles: Math.ceil(lane.cycles / 2) });
    },
    300_000,
  );
});
