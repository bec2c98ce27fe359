// A process that is killed, frozen and cut off. Argument: a VictimConfig as JSON.

import { connectTestDatabase, dieAtCheckpoint } from '@holdfast/core/testing';
import type { LoadName, VictimConfig, VictimSide } from './loads/load.ts';
import { outboxVictim } from './loads/outbox.ts';
import { scanVictim } from './loads/scan.ts';
import { taskVictim } from './loads/task.ts';
import { webhookVictim } from './loads/webhook.ts';
import { Notes } from './oracle/notes.ts';

const sides: Readonly<Record<LoadName, VictimSide>> = { task: taskVictim, outbox: outboxVictim, webhook: webhookVictim, scan: scanVictim };
const config = JSON.parse(process.argv[2] ?? '{}') as VictimConfig;
const notes = await Notes.open(config.oracle);
const knex = connectTestDatabase(config.address);
dieAtCheckpoint(config.dieAt, config.hits);
const { stop } = await sides[config.load](config, knex, notes);
process.stdout.write('ready\n');
process.once('SIGTERM', async () => {
  await stop();
  await knex.destroy();
  process.exit(0);
});
