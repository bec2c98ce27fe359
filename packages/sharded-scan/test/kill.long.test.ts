import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until, type Victim, Victims } from '@holdfast/core/testing';
import { afterAll, afterEach, expect, it } from 'vitest';
import { onEveryPair } from './suite.ts';

const checkpoints = ['scan:before-checkpoint', 'scan:after-checkpoint'];
const cycles = Number(process.env.HOLDFAST_CYCLES ?? 3);

onEveryPair('a scan whose processes are killed', (suite) => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-scan-'));
  const victims = new Victims(join(import.meta.dirname, 'victim', 'victim.ts'));
  afterEach(() => victims.end());
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const start = (file: string, dieAt = '', hits = 1, when: 'now' | 'wait' = 'now'): Victim =>
    victims.start(suite.databases[0].address, suite.databases[1].address, file, dieAt, hits, when);
  const killed = { code: null, signal: 'SIGKILL' };
  const done = { code: 0, signal: null };

  it(
    'hands every row over at least once in one pass, and after each kill repeats one batch of each unit at most',
    async () => {
      // As many kills as leave work to do.
      const rows = 40 * cycles;
      await suite.fill(rows);
      const file = join(folder, `rows-${Math.trunc(performance.now())}`);
      let kills = 0;
      for (let cycle = 0; cycle < cycles; cycle++)
        for (const checkpoint of checkpoints) {
          const victim = start(file, checkpoint, 2 + (cycle % 3));
          // The process may find no work left.
          const ended = await victim.ended;
          if (ended.signal === 'SIGKILL') kills += 1;
          else expect(ended).toEqual(done);
        }
      expect(kills).toBeGreaterThan(cycles);
      expect(await start(file).ended).toEqual(done);
      const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
      expect(new Set(lines).size).toBe(rows * 8);
      // Four units at a time, ten rows each.
      expect(lines.length - rows * 8).toBeLessThanOrEqual(kills * 4 * 10);
      expect(await suite.databases[0].knex('scan_pass').select('pass')).toHaveLength(1);
      const units = await suite.databases[0].knex('scan_unit').orderBy('unit');
      expect(units.map(({ state, handled }) => [state, Number(handled)])).toEqual(new Array(8).fill(['done', rows]));
    },
    30_000 + cycles * 30_000,
  );

  it('is finished by two others when one of three is killed', async () => {
    await suite.fill(300);
    const file = join(folder, `three-${Math.trunc(performance.now())}`);
    const victim = start(file, 'scan:after-checkpoint', 20, 'wait');
    const others = [start(file, '', 1, 'wait'), start(file, '', 1, 'wait')];
    // They begin together: one that is up only after the pass has ended would walk another.
    await until(() => [victim, ...others].every((one) => one.output().includes('ready')));
    for (const one of [victim, ...others]) one.say('go');
    expect(await victim.ended).toEqual(killed);
    expect(await Promise.all(others.map(({ ended }) => ended))).toEqual([done, done]);
    const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
    expect(new Set(lines).size).toBe(2_400);
    expect(lines.length - 2_400).toBeLessThanOrEqual(4 * 10);
  });
});
