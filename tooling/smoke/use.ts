/**
 * A script for each package. It runs against the package installed from its tarball, on every supported Node, prints `ok` and ends by itself.
 */
export const uses: Readonly<Record<string, string>> = {
  core: `
import { afterCommit, coreSchema, createSnowflake, migrate, openDatabase } from '@holdfast/core';
import { openSqlite } from '@holdfast/core/sqlite';
const knex = openSqlite(':memory:');
await migrate(knex, [coreSchema]);
await knex.transaction((trx) => afterCommit(trx, () => console.log('ok')));
const database = openDatabase({ knex });
await database.describe();
await knex.destroy();`,
  broker: `
import { ack } from '@holdfast/broker';
import { memoryBroker } from '@holdfast/broker/memory';
const broker = memoryBroker();
const heard = new Promise((resolve) => broker.subscribe(['t'], { group: 'g' }, async ({ message }) => (resolve(message.id), ack)));
await broker.publish([{ id: 'm', topic: 't', key: 'k', headers: {}, body: new Uint8Array(), contentType: 'text/plain' }]);
console.log((await heard) === 'm' ? 'ok' : 'no');
await broker.close();`,
  http: `
import { createApi, MalformedBodyError } from '@holdfast/http';
const handlers = {
  hello: (call) => {
    if (call.query('word') === undefined) throw new MalformedBodyError('There is no word.');
    return Response.json({ word: call.query('word'), by: call.caller });
  },
};
const operations = [{ id: 'hello', method: 'get', path: '/hello', summary: 'Says hello', query: { word: 'What to say.' } }];
const { fetch } = createApi({ info: { title: 't', version: '1' }, operations, schemas: {}, handlers, statuses: {}, authenticate: () => 'me' });
const { by } = await (await fetch(new Request('http://x/hello?word=w'))).json();
console.log(by === 'me' && (await fetch(new Request('http://x/hello'))).status === 400 ? 'ok' : 'no');`,
  outbox: `
import { memoryBroker } from '@holdfast/broker/memory';
import { coreSchema, migrate } from '@holdfast/core';
import { openSqlite } from '@holdfast/core/sqlite';
import { createOutbox, outboxSchema, topic } from '@holdfast/outbox';
const anything = { '~standard': { version: 1, vendor: 'smoke', validate: (value) => ({ value }) } };
const knex = openSqlite(':memory:');
await migrate(knex, [coreSchema, outboxSchema]);
const broker = memoryBroker();
const heard = new Promise((resolve) => broker.subscribe(['t'], { group: 'g' }, async ({ message }) => (resolve(message.key), { outcome: 'ack' })));
const outbox = createOutbox({ knex, publisher: broker, topics: { t: topic(anything, { key: ({ k }) => k }) } });
const relay = outbox.relay();
await relay.start();
await knex.transaction((trx) => outbox.in(trx).put('t', { k: 'x' }));
console.log((await heard) === 'x' ? 'ok' : 'no');
await relay.stop();
await outbox.close();
await broker.close();
await knex.destroy();`,
  'compensate-biz': `
import { bizType, compensateBizSchema, createCompensateBiz } from '@holdfast/compensate-biz';
import { coreSchema, migrate } from '@holdfast/core';
import { openSqlite } from '@holdfast/core/sqlite';
const anything = { '~standard': { version: 1, vendor: 'smoke', validate: (value) => ({ value }) } };
const knex = openSqlite(':memory:');
await migrate(knex, [coreSchema, compensateBizSchema]);
const biz = createCompensateBiz({ knex, types: { greet: bizType(anything) } });
const done = new Promise((resolve) => biz.handle('greet', ({ word }) => resolve(word)));
const worker = biz.worker();
await worker.start();
await biz.now().submit('greet', { word: 'hello' });
console.log((await done) === 'hello' ? 'ok' : 'no');
await worker.stop();
await biz.close();
await knex.destroy();`,
  notifier: `
import { createServer } from 'node:http';
import { coreSchema, migrate } from '@holdfast/core';
import { openSqlite } from '@holdfast/core/sqlite';
import { createNotifier, notifierSchema } from '@holdfast/notifier';
import { verifyWebhook } from '@holdfast/notifier/verify';
const key = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
const server = createServer(async (request, response) => {
  const { json } = await verifyWebhook(request, { keys: [key] });
  response.end('success');
  console.log(json().n === 1 ? 'ok' : 'no');
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const { port } = server.address();
const knex = openSqlite(':memory:');
await migrate(knex, [coreSchema, notifierSchema]);
const notifier = createNotifier({ knex, keys: () => [key], egress: { allowHttp: true, allowCidrs: ['127.0.0.1/32'], allowPorts: [port] } });
const delivered = new Promise((resolve) => notifier.events.on('notification:delivered', resolve));
await notifier.now().trigger({ subjectId: 's', status: 'X', url: 'http://127.0.0.1:' + port, keyRef: 'k', payload: { n: 1 } });
await notifier.worker().start();
await delivered;
await notifier.close();
server.closeAllConnections();
server.close();
await knex.destroy();`,
  'sharded-scan': `
import { coreSchema, migrate } from '@holdfast/core';
import { openSqlite } from '@holdfast/core/sqlite';
import { createTopology, defineScan, scanSchema } from '@holdfast/sharded-scan';
const knex = openSqlite(':memory:');
await migrate(knex, [coreSchema, scanSchema]);
const topology = createTopology({ databases: { '01': knex }, tables: 2 });
for (const shard of topology.shards) {
  await knex.schema.createTable(shard.tableName('thing'), (t) => t.bigInteger('id').notNullable().primary());
  await knex(shard.tableName('thing')).insert([{ id: 1 }, { id: 2 }]);
}
let rows = 0;
const scan = defineScan({ name: 's', topology, table: 'thing', key: ['id'], where: (q) => q.where('id', '>', 0), state: knex, process: (batch) => void (rows += batch.length) });
const { exitCode } = await scan.run();
console.log(exitCode === 0 && rows === 4 ? 'ok' : 'no');
await scan.close();
await knex.destroy();`,
  scheduler: `
import { coreSchema, migrate } from '@holdfast/core';
import { openSqlite } from '@holdfast/core/sqlite';
import { api, createScheduler, schedulerSchema } from '@holdfast/scheduler';
const knex = openSqlite(':memory:');
await migrate(knex, [coreSchema, schedulerSchema]);
const scheduler = createScheduler({ knex, app: 'smoke' });
const ran = new Promise((resolve) => scheduler.job('job', { trigger: api() }, (params) => resolve(params.n)));
const worker = scheduler.worker();
await worker.start();
await scheduler.jobs.trigger('job', { params: { n: 7 } });
console.log((await ran) === 7 ? 'ok' : 'no');
await worker.stop();
await scheduler.close();
await knex.destroy();`,
  'xxl-job': `
import { createExecutor } from '@holdfast/xxl-job';
import { adminDouble } from '@holdfast/xxl-job/testing';
const admin = await adminDouble('2.3');
const executor = createExecutor({ admins: [admin.url], appName: 'smoke-test', accessToken: 'default_token', port: 0, folder: './executor', handlers: { job: async () => 'done' } });
await executor.start();
await admin.trigger(executor.address, { jobId: 1, logId: 1, handler: 'job', param: '' });
while (admin.callbacks.length === 0) await new Promise((resolve) => setTimeout(resolve, 10));
console.log('ok');
await executor.stop();
await admin.close();`,
  'code-runner': `
import { codeRunnerSchema, createCodeRunner, python } from '@holdfast/code-runner';
import { localSandbox } from '@holdfast/code-runner/sandbox';
import { coreSchema, migrate } from '@holdfast/core';
import { openSqlite } from '@holdfast/core/sqlite';
const knex = openSqlite(':memory:');
await migrate(knex, [coreSchema, codeRunnerSchema]);
const runner = createCodeRunner({ knex, executor: localSandbox(), languages: [python()], pools: { small: { slots: 1 } } });
const me = { actor: 'me' };
const task = await runner.tasks.create({ ...me, name: 't', language: 'python' });
await runner.files.write(task.id, 'run.py', 'print(1)', me);
console.log(task.id.length > 0 ? 'ok' : 'no');
await runner.close();
await knex.destroy();`,
};
