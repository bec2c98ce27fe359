import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Victim, Victims } from '@holdfast/core/testing';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { CodeRunner, Run, RunEvent } from '../src/index.ts';
import { localSandbox } from '../src/sandbox/index.ts';
import { type KubernetesDouble, kubernetesDouble } from '../src/testing/index.ts';
import { alice, eventsOf, logOf, onEveryDatabase, submit } from './suite.ts';
import { tls } from './tls.ts';

const cycles = Number(process.env.HOLDFAST_CYCLES ?? 3);
const checkpoints = ['runner:claimed', 'runner:create', 'runner:created', 'runner:ended', 'runner:collected'];
const folder = mkdtempSync(join(tmpdir(), 'holdfast-runner-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.runIf(existsSync('/usr/bin/bwrap'))('workers that are killed', () => {
  let double: KubernetesDouble;
  const kubeConfig = join(folder, 'kubeconfig');
  const victims = new Victims(join(import.meta.dirname, 'victim', 'victim.ts'));
  beforeAll(async () => {
    double = await kubernetesDouble({ sandbox: localSandbox({ killAfterMs: 300 }), ...(await tls()) });
    writeFileSync(kubeConfig, double.kubeConfig());
  });
  afterEach(() => victims.end());
  afterAll(() => double.close());

  onEveryDatabase(
    'their runs',
    (suite) => {
      const start = (where: 'sandbox' | 'cluster', dieAt = '', hits = 1): Victim =>
        victims.start(suite.db.address, where === 'sandbox' ? 'sandbox' : kubeConfig, double.namespace, dieAt, hits);
      const killed = { code: null, signal: 'SIGKILL' };
      const code = 'import time\nfor i in range(5):\n  print("line", i, flush=True)\n  time.sleep(0.05)\n';
      const whole = Array.from({ length: 5 }, (_, i) => `line ${i}\n`).join('');
      /** What holds of every run, whatever was killed. */
      const judge = async (runner: CodeRunner, run: Run): Promise<{ readonly run: Run; readonly events: readonly RunEvent[] }> => {
        const events = await eventsOf(runner, run.id);
        expect(events.map(({ seq }) => seq)).toEqual(events.map((_, i) => i + 1));
        expect(events.filter((event) => event.type === 'state' && event.phase === 'terminal')).toHaveLength(1);
        return { run: await runner.runs.get(run.id, alice), events };
      };

      it.each(checkpoints)(
        'in a sandbox, killed at %s: each ends once, as lost or after it ran whole, and its slot is free',
        async (checkpoint) => {
          const runner = suite.runner({ pools: { small: { slots: 3 } } });
          for (let cycle = 0; cycle < cycles; cycle++) {
            const runs = [await submit(runner, code), await submit(runner, code)];
            const victim = start('sandbox', checkpoint, 1 + (cycle % 2));
            expect(await victim.ended).toEqual(killed);
            const other = start('sandbox');
            for (const { id } of runs) {
              const { run, events } = await judge(runner, { id } as Run);
              if (run.state === 3) expect(logOf(events)).toBe(whole);
              else expect(run).toMatchObject({ state: 4, reason: 'NODE_LOST' });
              // Before a program was begun nothing is lost by a kill. (At the second claim the first's programs may run.)
              if (checkpoint === 'runner:claimed' && cycle % 2 === 0) expect(run).toMatchObject({ state: 3 });
            }
            await other.end('SIGKILL');
            expect(await suite.db.knex('holdfast_slot').whereNotNull('holder')).toEqual([]);
          }
        },
        60_000 + cycles * 20_000,
      );

      it.each(checkpoints)(
        'in a cluster, killed at %s: each runs once, is gone on with, and its log is whole',
        async (checkpoint) => {
          const runner = suite.runner({ pools: { small: { slots: 3 } } });
          for (let cycle = 0; cycle < cycles; cycle++) {
            const runs = [await submit(runner, code), await submit(runner, code)];
            const victim = start('cluster', checkpoint, 1 + (cycle % 2));
            expect(await victim.ended).toEqual(killed);
            const other = start('cluster');
            for (const { id } of runs) {
              const { run, events } = await judge(runner, { id } as Run);
              expect(run).toMatchObject({ state: 3, reason: null });
              expect(logOf(events)).toBe(whole);
              for (let attempt = 1; attempt <= run.attempt; attempt++)
                expect(double.kubelet.started.get(`cr-${id}-${attempt}`) ?? 0).toBe(attempt === run.attempt ? 1 : 0);
            }
            // The next sweep takes away what nobody wants.
            await expect.poll(() => double.store.all('jobs').length + double.store.all('configmaps').length, { timeout: 10_000 }).toBe(0);
            await other.end('SIGKILL');
            expect(await suite.db.knex('holdfast_slot').whereNotNull('holder')).toEqual([]);
          }
        },
        60_000 + cycles * 20_000,
      );

      it('a worker that was stopped for longer than its lease finds its run ended, and starts nothing', async () => {
        const runner = suite.runner({ pools: { small: { slots: 3 } } });
        const run = await submit(runner, 'import time; print("up", flush=True); time.sleep(3); print("late")');
        const zombie = start('sandbox');
        for await (const event of runner.runs.events(run.id, { ...alice, signal: AbortSignal.timeout(20_000) }))
          if (event.type === 'log') break;
        zombie.signal('SIGSTOP');
        const other = start('sandbox');
        const lost = await judge(runner, run);
        expect(lost.run).toMatchObject({ state: 4, reason: 'NODE_LOST' });
        zombie.signal('SIGCONT');
        const next = await submit(runner, code);
        expect((await judge(runner, next)).run.state).toBe(3);
        expect(logOf((await judge(runner, run)).events)).toBe('up\n');
        await other.end('SIGKILL');
      });
    },
    ['postgres'],
  );
});
