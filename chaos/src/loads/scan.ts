import { coreSchema, silentLogger, wait } from '@holdfast/core';
import { createTopology, defineScan, scanSchema } from '@holdfast/sharded-scan';
import { type Load, leaseMs, tally, type VictimSide } from './load.ts';

const tables = 8;
const rowsPerTable = 120;

/**
 * Several processes scan eight tables together, pass after pass. In each pass that was reported as complete, every row must have been
 * handled at least once.
 */
export const scanLoad: Load = {
  name: 'scan',
  schemas: [coreSchema, scanSchema],
  checkpoints: [
    { name: 'scan:before-checkpoint', hits: 5 },
    { name: 'scan:after-checkpoint', hits: 5 },
  ],
  controls: [{ mode: 'note-late', dieAt: 'scan:after-checkpoint', sees: 'lost' }],
  async prepare({ knex }) {
    for (let i = 0; i < tables; i++) {
      await knex.schema.createTable(`thing_00${i}`, (t) => {
        t.bigInteger('id').notNullable().primary();
      });
      await knex(`thing_00${i}`).insert(Array.from({ length: rowsPerTable }, (_, id) => ({ id })));
    }
  },
  // The rows exist already, and victims begin each pass by themselves.
  feed: (_, signal) => wait(2 ** 30, signal).catch(() => undefined),
  // The pass that ran during the last faults must have ended.
  async quiet({ oracle }, acceptedBefore) {
    return new Set(oracle.read('accepted')).size > acceptedBefore;
  },
  async judge({ oracle }) {
    const passes = new Set(oracle.read('accepted'));
    const seen = tally(oracle.read('effect').filter((line) => passes.has(line.split(' ')[0] ?? '')));
    const accepted = passes.size * tables * rowsPerTable;
    return {
      accepted,
      effects: seen.size,
      lost: accepted - seen.size,
      duplicated: 0,
      repeated: [...seen.values()].filter((n) => n > 1).length,
      wrong: 0,
    };
  },
};

export const scanVictim: VictimSide = async ({ mode }, knex, notes) => {
  const passes = new Map<string, string>();
  const scan = defineScan<{ id: string }>({
    name: 'things',
    topology: createTopology({ databases: { '01': knex }, tables }),
    table: 'thing',
    key: ['id'],
    where: (q) => q.where('id', '>=', 0),
    batch: 10,
    lease: leaseMs,
    outage: '2s',
    state: knex,
    logger: silentLogger,
    process: async (rows, unit) => {
      const pass = passes.get(unit.shard.name);
      const keep = () =>
        notes.note(
          'effect',
          rows.map(({ id }) => `${pass} ${unit.shard.name} ${id}`),
        );
      // Broken on purpose: it notes the effect after it has reported the batch as done.
      if (mode === 'note-late') setTimeout(() => void keep(), 200);
      else await keep();
    },
  });
  scan.events.on('unit:started', ({ unit, pass }) => passes.set(unit, pass));
  const over = new AbortController();
  const walking = (async () => {
    while (!over.signal.aborted) {
      try {
        const { pass, exitCode } = await scan.run({ signal: over.signal });
        if (exitCode === 0) await notes.note('accepted', [pass]);
        else await wait(50);
      } catch {
        // The database is down. The pass continues when it is back.
        await wait(100);
      }
    }
  })();
  return {
    async stop() {
      over.abort();
      await walking;
      await scan.close();
    },
  };
};
