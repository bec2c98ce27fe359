import { parseArgs } from 'node:util';
import pino from 'pino';
import { Algorithm } from './algorithm.ts';
import { openInvoiceDatabases, openKnex, readConfig, readEgress, readSecret, readXxl } from './config.ts';
import { Dispatch } from './dispatch.ts';
import { buildPage } from './page.ts';
import { runReceiver } from './receiver.ts';
import { createServer } from './server.ts';

const [command, ...rest] = process.argv.slice(2);

async function runService(): Promise<void> {
  const { values } = parseArgs({ options: { worker: { type: 'boolean' } } });
  const logger = pino({ level: process.env.LOG_LEVEL ?? 'warn' });
  const config = readConfig(process.env);
  const knex = openKnex(config);
  const invoiceDatabases = await openInvoiceDatabases(config, knex);
  const dispatch = await Dispatch.open({
    knex,
    machines: config.DISPATCH_MACHINES,
    logger,
    brokerUrl: config.DISPATCH_BROKER_URL,
    secret: readSecret(config),
    egress: readEgress(config),
    invoiceDatabases,
    billingMs: config.DISPATCH_BILLING_SECONDS * 1_000,
    scanMs: config.DISPATCH_SCAN_SECONDS * 1_000,
    losePercent: config.DISPATCH_LOSE_PERCENT,
    xxl: readXxl(config),
  });
  await dispatch.start();
  const algorithm = new Algorithm({ knex, config, logger });
  await algorithm.start();
  const app = values.worker ? undefined : await createServer(dispatch, algorithm, await buildPage());
  if (app) {
    const address = await app.listen({ port: config.PORT, host: config.HOST });
    console.log(`compute-dispatch is at ${address}  (page, API under /v1, document at /openapi.json)`);
    console.log(
      `Try: curl -s ${address}/v1/batches -H 'content-type: application/json' -d '{"businessOrderNo":"order-1","packageId":"standard","count":12,"minimum":4}'`,
    );
    console.log(
      `Hear of it as a customer does, in another terminal: npm start -- receiver${address.endsWith(':8080') ? '' : ` --service ${address}`}`,
    );
    console.log(algorithm.problem ?? `Algorithm tasks run in ${algorithm.where}.`);
    console.log('Ctrl-C ends it; what it has accepted goes on at the next start.');
  } else {
    console.log('compute-dispatch worker: shares the work of every process on the same database. Ctrl-C ends it.');
  }
  let stopping = false;
  const stop = async (): Promise<void> => {
    if (stopping) return;
    stopping = true;
    await app?.close();
    await algorithm.stop();
    await dispatch.stop();
    for (const one of [knex, ...invoiceDatabases]) await one.destroy();
    process.exit(0);
  };
  process.on('SIGINT', () => void stop());
  process.on('SIGTERM', () => void stop());
}

try {
  await (command === 'receiver' ? runReceiver(rest) : runService());
} catch (error) {
  const { code, message } = error as { code?: string; message: string };
  console.error(code === 'EADDRINUSE' ? 'The port is in use; set PORT to another one, for example PORT=8081 npm start.' : message);
  process.exit(1);
}
