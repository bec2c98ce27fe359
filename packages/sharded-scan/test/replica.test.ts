import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { coreSchema, migrate, silentLogger } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import knexFactory, { type Knex } from 'knex';
import { afterEach, describe, expect, it } from 'vitest';
import { mariadb } from '../../../tooling/services/mariadb.ts';
import { mysql } from '../../../tooling/services/mysql.ts';
import { postgres } from '../../../tooling/services/postgres.ts';
import { serviceFolder } from '../../../tooling/services/process-record.ts';
import { type ScratchServer, scratchName, scratchServer } from '../../../tooling/services/scratch.ts';
import { createTopology, defineScan, replicaLag, scanSchema } from '../src/index.ts';

const log = { warn: () => undefined, error: () => undefined };

/** A primary and a replica that really follows it. */
describe('a replica that lags', () => {
  const servers: ScratchServer[] = [];
  const knexes: Knex[] = [];
  afterEach(async () => {
    for (const knex of knexes.splice(0)) await knex.destroy();
    for (const server of servers.splice(0)) await server.stop();
  });
  const connect = (client: string, url: string): Knex => {
    const knex = knexFactory({ client, connection: url, pool: { min: 0, max: 4 }, log });
    knexes.push(knex);
    return knex;
  };
  /** A scan on the primary that continues only while the replica keeps up. */
  const held = async (primary: Knex, replica: Knex, lag: () => Promise<unknown>, catchUp: () => Promise<unknown>) => {
    const throttle = replicaLag({ replica, max: '1s' });
    expect(await throttle()).toBe(0);
    await migrate(primary, [coreSchema, scanSchema]);
    for (const table of ['scan_pass', 'scan_unit', 'holdfast_lease']) await primary(table).delete();
    await primary.schema.dropTableIfExists('thing_000');
    await primary.schema.createTable('thing_000', (t) => {
      t.bigInteger('id').notNullable().primary();
    });
    await primary('thing_000').insert(Array.from({ length: 100 }, (_, i) => ({ id: i + 1 })));
    await until(async () => (await replica('thing_000').catch(() => [])).length === 100, { what: 'the replica has the rows' });
    let handled = 0;
    let holding = 0;
    await using scan = defineScan({
      name: 'held',
      topology: createTopology({ databases: { '01': primary }, tables: 1 }),
      table: 'thing',
      key: ['id'],
      where: () => undefined,
      batch: 10,
      state: primary,
      logger: silentLogger,
      throttle: async () => {
        const ms = await throttle();
        if (ms > 0) holding += 1;
        return ms;
      },
      process: async (rows) => {
        handled += rows.length;
        if (handled === 30) await lag();
        // Writes for the replica to follow, for longer than the poll interval of one second.
        await primary('thing_000').insert({ id: 1_000 + handled });
        await new Promise((resolve) => setTimeout(resolve, handled === 30 ? 2_500 : 20));
      },
    });
    const running = scan.run();
    await until(() => holding > 1, { withinMs: 30_000, what: 'the scan is held' });
    expect(handled).toBeLessThan(100);
    const before = handled;
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    expect(handled).toBe(before);
    await catchUp();
    expect(await running).toMatchObject({ exitCode: 0 });
    expect(handled).toBe(100);
    // The primary itself is not a replica.
    await expect(replicaLag({ replica: primary, max: '1s' })()).rejects.toThrow(/is not a replica/);
  };

  it.runIf(process.env[postgres.variable])(
    'holds a scan until it has caught up, on postgres',
    async () => {
      const primary = await scratchServer(postgres, 'scan-primary-postgres');
      servers.push(primary);
      const folder = serviceFolder(scratchName('scan-standby-postgres'));
      rmSync(join(folder, 'data'), { recursive: true, force: true });
      mkdirSync(folder, { recursive: true });
      const { port } = new URL(primary.url);
      const primaryName = scratchName('scan-primary-postgres');
      const backup = join(folder, '..', primaryName, 'standby');
      rmSync(backup, { recursive: true, force: true });
      const { home } = postgres;
      const args = ['-h', '127.0.0.1', '-p', port, '-U', 'holdfast', '-D', backup, '-R', '-X', 'stream', '-c', 'fast'];
      home.run(primaryName, join(postgres.bin(), 'pg_basebackup'), args, home.account('postgres'));
      renameSync(backup, join(folder, 'data'));
      const standby = await scratchServer(postgres, 'scan-standby-postgres');
      servers.push(standby);
      const replica = connect('pg', standby.url);
      await until(async () => (await replica.raw('SELECT 1 FROM pg_stat_wal_receiver')).rows.length === 1, { what: 'it streams' });
      await held(
        connect('pg', primary.url),
        replica,
        () => replica.raw('SELECT pg_wal_replay_pause()'),
        () => replica.raw('SELECT pg_wal_replay_resume()'),
      );
      // A replica that receives nothing counts as lagging, even if it has replayed all that it received.
      await primary.kill();
      const throttle = replicaLag({ replica, max: '1s' });
      await until(async () => (await throttle()) > 0, { withinMs: 15_000, what: 'it counts as behind' });
    },
    120_000,
  );

  it.runIf(process.env[mariadb.variable])(
    'holds a scan until it has caught up, on mariadb',
    async () => {
      const primary = await scratchServer(mariadb, 'scan-primary-mariadb', ['--log-bin', '--server-id=1', '--binlog-format=ROW']);
      servers.push(primary);
      const standby = await scratchServer(mariadb, 'scan-standby-mariadb', ['--server-id=2']);
      servers.push(standby);
      const source = connect('mysql2', primary.url);
      const replica = connect('mysql2', standby.url);
      const [[at]] = await source.raw('SHOW MASTER STATUS');
      await replica.raw('STOP SLAVE');
      await replica.raw(
        `CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = ${new URL(primary.url).port}, MASTER_USER = 'holdfast', MASTER_PASSWORD = 'holdfast', MASTER_LOG_FILE = '${at.File}', MASTER_LOG_POS = ${at.Position}, MASTER_USE_GTID = no`,
      );
      await source.raw('DROP TABLE IF EXISTS thing_000');
      await replica.raw('SET GLOBAL slave_exec_mode = IDEMPOTENT');
      await replica.raw('START SLAVE');
      await until(
        async () => {
          const [[status]] = await replica.raw('SHOW SLAVE STATUS');
          return status.Seconds_Behind_Master === 0;
        },
        { what: 'it follows' },
      );
      await held(
        source,
        replica,
        () => replica.raw('STOP SLAVE SQL_THREAD'),
        () => replica.raw('START SLAVE SQL_THREAD'),
      );
    },
    120_000,
  );

  it.runIf(process.env[mysql.variable])(
    'holds a scan until it has caught up, on mysql',
    async () => {
      const primary = await scratchServer(mysql, 'scan-primary-mysql', ['--server-id=1']);
      servers.push(primary);
      const standby = await scratchServer(mysql, 'scan-standby-mysql', ['--server-id=2', '--replica-exec-mode=IDEMPOTENT']);
      servers.push(standby);
      const source = connect('mysql2', primary.url);
      const replica = connect('mysql2', standby.url);
      await replica.raw('STOP REPLICA');
      await replica.raw('RESET REPLICA ALL');
      const [[at]] = await source.raw('SHOW BINARY LOG STATUS');
      await replica.raw(
        `CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = ${new URL(primary.url).port}, SOURCE_USER = 'holdfast', SOURCE_PASSWORD = 'holdfast', SOURCE_LOG_FILE = '${at.File}', SOURCE_LOG_POS = ${at.Position}, SOURCE_AUTO_POSITION = 0, GET_SOURCE_PUBLIC_KEY = 1`,
      );
      await source.raw('DROP TABLE IF EXISTS thing_000');
      await replica.raw('START REPLICA');
      await until(
        async () => {
          const [[status]] = await replica.raw('SHOW REPLICA STATUS');
          return status.Seconds_Behind_Source === 0;
        },
        { what: 'it follows' },
      );
      await held(
        source,
        replica,
        () => replica.raw('STOP REPLICA SQL_THREAD'),
        () => replica.raw('START REPLICA SQL_THREAD'),
      );
    },
    120_000,
  );
});
