import { parseArgs, styleText } from 'node:util';
import { redisWaker } from '@holdfast/broker/redis';
import { Redis } from 'ioredis';
import pino from 'pino';
import { Algorithm } from './algorithm.ts';
import { openBroker } from './broker.ts';
import { Child } from './children.ts';
import {
  adminKey,
  type Config,
  configTable,
  derivedKey,
  describeConfig,
  openInvoiceDatabases,
  openKnex,
  readConfig,
  readEgress,
  readRoles,
  readSecret,
  readXxl,
  roomToken,
} from './config.ts';
import { Dispatch } from './dispatch.ts';
import { firstSteps, registerReceiver } from './first-steps.ts';
import { serveHealth } from './http/health.ts';
import { buildPage } from './http/page.ts';
import { createServer } from './http/server.ts';
import { runReceiver } from './receiver.ts';
import { httpAdapter } from './room/http-adapter.ts';
import { Rooms, roomControls } from './room/rooms.ts';
import { runRoom } from './room/simulator/run.ts';
import { startTelemetry } from './telemetry.ts';

const usage = `Usage: npm start [-- COMMAND] [--worker] [--check]

  (nothing)   the service: its API and page here; a worker and, unless DISPATCH_ROOM_URL names one, a simulated room as processes
  room        a simulated machine room, alone
  receiver    a customer that verifies what it hears
  migrate     brings the tables up to date, and ends
  --worker    a process that shares the work, without HTTP (the same as DISPATCH_ROLES=worker,relay)
  --variables prints every variable of the configuration, as a table
  --check     prints what would run, tries the database, and ends`;

async function runService(config: Config, demonstration: boolean): Promise<void> {
  const logger = pino({ level: config.LOG_LEVEL });
  const roles = readRoles(config);
  const telemetry = startTelemetry(config.OTEL_EXPORTER_OTLP_ENDPOINT);
  const knex = openKnex(config);
  const invoiceDatabases = await openInvoiceDatabases(config, knex);
  const rooms = new Rooms(knex);
  const token = roomToken(config);
  const redis = config.DISPATCH_REDIS_URL === undefined ? undefined : new Redis(config.DISPATCH_REDIS_URL, { maxRetriesPerRequest: null });
  redis?.on('error', (err) => logger.debug({ err }, 'Redis does not answer; processes find work by looking'));
  const dispatch = await Dispatch.open({
    knex,
    logger,
    roles,
    broker: await openBroker(config.DISPATCH_BROKER_URL, knex, logger),
    room: httpAdapter({ url: () => rooms.url(), token, logger }),
    secret: readSecret(config),
    egress: readEgress(config),
    invoiceDatabases,
    billingMs: config.DISPATCH_BILLING_SECONDS * 1_000,
    scanMs: config.DISPATCH_SCAN_SECONDS * 1_000,
    reconcileMs: config.DISPATCH_RECONCILE_SECONDS * 1_000,
    quarantineMs: config.DISPATCH_QUARANTINE_SECONDS * 1_000,
    losePercent: config.DISPATCH_LOSE_PERCENT,
    quota: config.DISPATCH_QUOTA,
    xxl: readXxl(config),
    waker: redis && redisWaker({ client: redis, logger }),
  });
  const nowMs = await dispatch.database.now();
  await dispatch.keys.keep(adminKey(config), null, nowMs);
  if (config.DISPATCH_ROOM_URL !== undefined) await rooms.put('room-1', config.DISPATCH_ROOM_URL);
  await dispatch.start();
  const algorithm = new Algorithm({ knex, config, logger, work: roles.has('worker') });
  await algorithm.start();
  const children: Child[] = [];
  const ends: (() => Promise<unknown>)[] = [];
  if (roles.has('api')) {
    let worker: Child | undefined;
    const app = await createServer({
      dispatch,
      algorithm,
      metrics: telemetry.metrics,
      roomToken: token,
      pageFolder: await buildPage(),
      room: config.DISPATCH_ROOM_URL === undefined ? roomControls(rooms, token) : undefined,
      crash: config.DISPATCH_CRASH === 'yes' ? () => worker?.kill() : undefined,
    });
    const address = await app.listen({ port: config.PORT, host: config.HOST });
    ends.push(() => app.close());
    if (config.DISPATCH_ROOM_URL === undefined) {
      const moved = (message: unknown): void => {
        const { room } = message as { room?: string };
        if (room) void rooms.put('room-1', room).then(() => dispatch.reconcile().catch(() => undefined));
      };
      children.push(new Child(['room', '--port', '0', '--service', address], {}, moved));
    }
    if (demonstration) {
      worker = new Child(['--worker'], { DISPATCH_CRASH: 'no' });
      children.push(worker);
      const tenantKey = derivedKey(readSecret(config), 'demo');
      await dispatch.tenants.put('demo', undefined, nowMs);
      await dispatch.keys.keep(tenantKey, 'demo', nowMs);
      await registerReceiver(dispatch);
      const problem = algorithm.problem ?? `Algorithm tasks run in ${algorithm.where}.`;
      await firstSteps({ dispatch, address, adminKey: adminKey(config), tenantKey, problem });
    } else {
      console.log(`compute-dispatch is at ${address}  (page, API under /v1, reference at /docs, document at /openapi.json)`);
    }
    console.log('Ctrl-C ends it; what it has accepted goes on at the next start.');
  } else {
    if (config.DISPATCH_HEALTH_PORT !== undefined)
      ends.push(await serveHealth({ host: config.HOST, port: config.DISPATCH_HEALTH_PORT, dispatch, metrics: telemetry.metrics }));
    console.log(`compute-dispatch ${[...roles].join(' and ')}: shares the work of every process on the same database. Ctrl-C ends it.`);
  }
  let stopping = false;
  const stop = async (): Promise<void> => {
    if (stopping) return;
    stopping = true;
    for (const end of ends) await end();
    await Promise.all(children.map((child) => child.stop()));
    await algorithm.stop();
    await dispatch.stop();
    for (const one of [knex, ...invoiceDatabases]) await one.destroy();
    redis?.disconnect();
    await telemetry.stop().catch(() => undefined);
    process.exit(0);
  };
  // Without its parent, nothing would restart this process.
  if (process.send) process.on('disconnect', () => void stop());
  // Ctrl-C reaches children too; their parent ends them.
  process.on('SIGINT', () => process.send || void stop());
  process.on('SIGTERM', () => void stop());
}

async function check(config: Config): Promise<void> {
  console.log(describeConfig(config));
  const knex = openKnex(config);
  try {
    await knex.raw('SELECT 1');
    console.log(styleText('green', 'The configuration is usable, and the database answers.'));
  } finally {
    await knex.destroy();
  }
}

async function migrateOnly(config: Config): Promise<void> {
  const knex = openKnex(config);
  const invoiceDatabases = await openInvoiceDatabases(config, knex);
  try {
    await Dispatch.migrate(knex);
    const { migrateInvoices } = await import('./invoices.ts');
    await migrateInvoices(invoiceDatabases);
    console.log('The tables are up to date.');
  } finally {
    for (const one of [knex, ...invoiceDatabases]) await one.destroy();
  }
}

try {
  const [command, ...rest] = process.argv.slice(2);
  if (command === 'receiver') await runReceiver(rest);
  else if (command === 'room') await runRoom(rest, readConfig(process.env), pino({ level: process.env.LOG_LEVEL ?? 'warn' }));
  else {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: { worker: { type: 'boolean' }, check: { type: 'boolean' }, variables: { type: 'boolean' }, help: { type: 'boolean' } },
    });
    const config = readConfig({ ...process.env, ...(values.worker ? { DISPATCH_ROLES: 'worker,relay' } : {}) });
    if (values.help) console.log(usage);
    else if (values.variables) console.log(configTable());
    else if (values.check) await check(config);
    else if (positionals[0] === 'migrate') await migrateOnly(config);
    else if (positionals.length > 0) throw new Error(`There is no command ${positionals[0]}.\n\n${usage}`);
    else {
      // Without roles this is the demonstration: the API in this process, the work in a child that may be killed.
      const demonstration = process.env.DISPATCH_ROLES === undefined && !values.worker;
      await runService(
        demonstration ? { ...config, DISPATCH_ROLES: 'api', DISPATCH_CRASH: process.env.DISPATCH_CRASH === 'no' ? 'no' : 'yes' } : config,
        demonstration,
      );
    }
  }
} catch (error) {
  const { code, message } = error as { code?: string; message: string };
  console.error(code === 'EADDRINUSE' ? 'The port is in use; set PORT to another one, for example PORT=8081 npm start.' : message);
  process.exit(1);
}
