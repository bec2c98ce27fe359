import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { until } from '@holdfast/core/testing';
import { afterEach, expect, it } from 'vitest';
import { onEveryPair } from './suite.ts';

const main = join(import.meta.dirname, '..', '..', 'core', 'src', 'cli', 'main.ts');
const config = join(import.meta.dirname, 'victim', 'holdfast.config.ts');
const hasTerminal = (() => {
  try {
    execFileSync('script', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();

onEveryPair(
  'a scan as a job of the command line',
  (suite) => {
    const children = new Set<ChildProcess>();
    afterEach(async () => {
      for (const child of [...children]) {
        const exited = once(child, 'exit');
        child.kill('SIGKILL');
        await exited;
      }
    });
    const start = (args: readonly string[], env: NodeJS.ProcessEnv = {}, terminal = false) => {
      const command = [
        process.execPath,
        '--conditions=@holdfast/source',
        '--disable-warning=ExperimentalWarning',
        main,
        '--config',
        config,
        'run',
        'things',
        ...args,
      ];
      const [program = '', ...rest] = terminal
        ? // A terminal of 100 columns.
          ['script', '-qefc', `stty cols 100; ${command.map((part) => `'${part}'`).join(' ')}`, '/dev/null']
        : command;
      const child = spawn(program, rest, {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, SCAN_FIRST: suite.databases[0].address, SCAN_SECOND: suite.databases[1].address, ...env },
      });
      children.add(child);
      const printed = { text: '' };
      for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (printed.text += data));
      const exited = once(child, 'exit').then(([code]) => {
        children.delete(child);
        return code as number | null;
      });
      return { child, printed, exited };
    };

    it('reports in lines what was scanned, and ends with 0', async () => {
      await suite.fill(30, 3);
      const { printed, exited } = start([]);
      expect(await exited).toBe(0);
      const lines = printed.text.trimEnd().split('\n');
      expect(printed.text).not.toContain('\r');
      for (const unit of ['01.000', '01.003', '02.002'])
        expect(lines).toContain(`things: ${unit} done, 30 rows scanned, 10 matched, 10 handled`);
      expect(lines.at(-1)).toBe('things: pass 1 is done');
    });

    it('ends with 1 when rows failed, and reports the failures', async () => {
      await suite.fill(20);
      const { printed, exited } = start(['--only', '1'], { SCAN_FAILS: '7' });
      expect(await exited).toBe(1);
      expect(printed.text).toContain('things: 01.000 done, 20 rows scanned, 20 matched, 19 handled, 1 failed');
      expect(printed.text).toContain('things: pass 1 is done, with failures');
    });

    it('ends after the current batch at SIGTERM, with 75, and continues from there when it is run again', async () => {
      await suite.fill(200);
      const first = start(['--shard', '0/2'], { SCAN_MS: '40' });
      await until(async () => Number((await suite.databases[0].knex('scan_unit').sum({ n: 'handled' }).first())?.n) > 60);
      first.child.kill('SIGTERM');
      expect(await first.exited).toBe(75);
      expect(first.printed.text).toContain('things: pass 1 is unfinished; run it again to continue');
      const handled = Number((await suite.databases[0].knex('scan_unit').sum({ n: 'handled' }).first())?.n);
      expect(handled).toBeLessThan(800);
      const second = start(['--shard', '0/2']);
      expect(await second.exited).toBe(0);
      expect(second.printed.text).toContain('things: 01.000 done, 200 rows scanned, 200 matched, 200 handled');
    });

    it('refuses parameters that name nothing before any work, with 1', async () => {
      await suite.fill(10);
      for (const [args, why] of [
        [['--only', ''], /separated by commas/],
        [['--only', '0'], /there are databases 1 to 2/],
        [['--only', '9'], /there are databases 1 to 2/],
        [['--only', 'x'], /there are databases 1 to 2/],
        [['--only', '1,,2'], /there are databases 1 to 2/],
        [['--shard', '3'], /an index and a total/],
        [['--shard', '3/3'], /an index from 0/],
        [['--all'], /A scan takes/],
      ] as const) {
        const { printed, exited } = start(args);
        expect(await exited, args.join(' ')).toBe(1);
        expect(printed.text, args.join(' ')).toMatch(why);
      }
      expect(await suite.databases[0].knex('scan_pass')).toEqual([]);
    }, 60_000);

    it.runIf(hasTerminal)('redraws a bar in place on a terminal, and leaves the figures there', async () => {
      await suite.fill(100);
      const { printed, exited } = start([], { SCAN_MS: '60' }, true);
      expect(await exited).toBe(0);
      const drawn = printed.text.split('\r').filter((part) => part.includes('█') || part.includes('░'));
      expect(drawn.length).toBeGreaterThan(3);
      // It fits into one line, and grows.
      for (const line of drawn) {
        const text = line.replace('\u001b[K', '');
        expect(text.length).toBeLessThan(100);
        expect(text).toMatch(/^things [█░]{24} \d{1,3}% {2}\d\/8 units, [\d,]+ scanned/);
      }
      const filled = drawn.map((line) => (line.match(/█/g) ?? []).length);
      expect(filled).toEqual([...filled].sort((a, b) => a - b));
      expect(drawn.some((line) => /\d\/s, about \d+ s left/.test(line))).toBe(true);
      expect(printed.text).toContain('things: 02.003 done, 100 rows scanned, 100 matched, 100 handled');
      expect(printed.text.trimEnd().endsWith('things: pass 1 is done')).toBe(true);
    });
  },
  ['sqlite'],
);
