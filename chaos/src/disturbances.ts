import { until } from '@holdfast/core/testing';
import type { Field } from './field.ts';
import { leaseMs } from './loads/load.ts';

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
/** A process that has not answered after this time, in ms, never will. */
const patienceMs = 20_000;

/** A fault that is caused again and again while a field works. */
export interface Disturbance {
  readonly name: string;
  /** The number of processes that work at any time. */
  readonly population: number;
  /** True if it kills victims. Without it, no process may end. */
  readonly kills: boolean;
  /** True if it needs a server of its own, behind a proxy. */
  readonly server: boolean;
  /** True if statements time out after one second, because the network breaks. */
  readonly impatient?: boolean;
  /** The name of the count of its faults. A run without a fault proves nothing. */
  readonly counts: string;
  /** After each fault, work must continue within this time, in ms, if that is promised. */
  readonly healsWithinMs?: number;
  run(field: Field, cycles: number): Promise<void>;
}

/** At each checkpoint in turn, `cycles` times, one process dies. */
const killAtCheckpoints: Disturbance = {
  name: 'SIGKILL at each checkpoint',
  counts: 'kills',
  population: 0,
  kills: true,
  server: false,
  async run(field, cycles) {
    for (let cycle = 0; cycle < cycles; cycle++)
      for (const { name, mode, hits = 1 } of field.load.checkpoints) {
        const victim = field.start({ dieAt: name, hits: 1 + (cycle % hits), mode });
        const ended = await Promise.race([victim.ended, pause(15_000)]);
        if (ended?.signal === 'SIGKILL') field.count('kills');
        else {
          field.count(`not reached: ${name}`);
          await field.end(victim, 'SIGKILL');
        }
      }
  },
};

const killAtRandom: Disturbance = {
  name: 'SIGKILL at random',
  counts: 'kills',
  population: 3,
  kills: true,
  server: false,
  async run(field, cycles) {
    for (let cycle = 0; cycle < cycles; cycle++) {
      const at = Math.floor(field.random() * field.population.length);
      const victim = field.population[at];
      if (!victim) continue;
      // Sometimes before it is up.
      if (field.random() < 0.8) await until(() => victim.output().includes('ready'), { what: 'a process is up' });
      await pause(field.random() * 400);
      await field.end(victim, 'SIGKILL');
      field.count('kills');
      field.population[at] = field.start();
    }
  },
};

/** A process is stopped for longer than its lease, and others take over. Then it continues, and must not undo their work. */
const freeze: Disturbance = {
  name: 'SIGSTOP past the lease, then SIGCONT',
  counts: 'zombies',
  population: 3,
  kills: false,
  server: false,
  async run(field, cycles) {
    for (let cycle = 0; cycle < cycles; cycle++) {
      const victim = field.population[cycle % field.population.length];
      await pause(field.random() * 200);
      await victim?.freeze(leaseMs * (1.5 + 1.5 * field.random()));
      field.count('zombies');
      await field.progress(patienceMs);
    }
  },
};

/** A process does not renew its leases; everything else in it continues. */
const deafen: Disturbance = {
  name: 'heartbeat cut',
  counts: 'heartbeats cut',
  population: 2,
  kills: false,
  server: false,
  async run(field, cycles) {
    for (let cycle = 0; cycle < cycles; cycle++) {
      const victim = field.population[cycle % field.population.length];
      victim?.say('deaf');
      await pause(leaseMs * (1.5 + field.random()));
      victim?.say('hear');
      field.count('heartbeats cut');
      await field.progress(patienceMs);
    }
  },
};

/** Every 200 ms all sessions of the service are ended, even within a statement. */
const endSessions: Disturbance = {
  name: 'sessions ended every 200 ms',
  counts: 'sessions ended',
  healsWithinMs: 5_000,
  population: 2,
  kills: false,
  server: true,
  async run(field, cycles) {
    for (let i = 0; i < cycles * 5; i++) {
      await pause(200);
      field.count('sessions ended', await sessions(field));
    }
    await field.progress(patienceMs);
  },
};

async function sessions({ knex, dialect }: Field): Promise<number> {
  if (dialect === 'postgres') {
    // This also ends idle sessions of the judge. Its pool opens new ones.
    const { rows } = await knex.raw(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name = current_setting('application_name')",
    );
    return rows.length;
  }
  // By an alias: MySQL names the columns of its own tables in capitals.
  const [rows] = await knex.raw('SELECT id AS id FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND db = DATABASE()');
  let ended = 0;
  for (const { id } of rows)
    await knex.raw(`KILL ${BigInt(id)}`).then(
      () => {
        ended += 1;
      },
      (error: { errno?: number }) => {
        // ER_NO_SUCH_THREAD: the session has already ended.
        if (error.errno !== 1094) throw error;
      },
    );
  return ended;
}

const restartServer: Disturbance = {
  name: 'database killed and started again',
  counts: 'server kills',
  healsWithinMs: 5_000,
  population: 2,
  kills: false,
  server: true,
  async run(field, cycles) {
    for (let cycle = 0; cycle < cycles; cycle++) {
      await field.server?.kill();
      await pause(200 + field.random() * 1_500);
      await field.server?.start();
      field.count('server kills');
      await field.progress(patienceMs);
      await pause(field.random() * 3_000);
    }
  },
};

const network: Disturbance = {
  name: 'network: stall, one way, half-close, lost reply, refusal',
  counts: 'network faults',
  // The time-out of a statement, plus the time that a pool needs to reconnect.
  healsWithinMs: 6_000,
  population: 2,
  kills: false,
  server: true,
  impatient: true,
  async run(field, cycles) {
    const proxy = field.through?.proxy;
    if (!proxy) return;
    const faults = [
      async () => {
        proxy.set('stall');
        await pause(1_500);
      },
      async () => {
        proxy.set('stall-down');
        await pause(1_500);
      },
      async () => {
        proxy.set('stall-up');
        await pause(1_500);
      },
      async () => {
        proxy.halfClose();
      },
      async () => {
        proxy.cutReplyAfter(Math.floor(field.random() * 60));
        await pause(100);
      },
      async () => {
        proxy.set('refuse');
        proxy.reset();
        await pause(1_000);
      },
    ];
    for (let cycle = 0; cycle < cycles; cycle++) {
      await faults[cycle % faults.length]?.();
      proxy.set('none');
      field.count('network faults');
      await field.progress(patienceMs);
    }
  },
};

export const disturbances = { killAtCheckpoints, killAtRandom, freeze, deafen, endSessions, restartServer, network } as const;
export type DisturbanceName = keyof typeof disturbances;
