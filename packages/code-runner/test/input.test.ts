import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { localSandbox } from '../src/sandbox/index.ts';
import { alice, onEveryDatabase, runToEnd, submit } from './suite.ts';

onEveryDatabase('what a run is given', ({ runner }) => {
  it('is checked before the run exists', async () => {
    const own = runner();
    const refused = async (input: unknown, message: RegExp): Promise<void> => {
      await expect(submit(own, '', input as never)).rejects.toMatchObject({
        code: 'invalid-argument',
        message: expect.stringMatching(message),
      });
    };
    for (const name of ['LD_PRELOAD', 'LD_LIBRARY_PATH', 'GLIBC_TUNABLES', 'PATH', 'HOME', 'BASH_ENV', 'OUT_DIR', 'RUN_ID'])
      await refused({ env: { [name]: 'x' } }, new RegExp(`env has the name ${name}, which`));
    for (const name of ['', '1A', 'A-B', 'A=B', 'A B', 'Ä', 'a'.repeat(101)])
      await refused({ env: { [name]: 'x' } }, /use letters, digits and _/);
    await refused({ env: { A: 'a\0b' } }, /env.A is .*without NUL/);
    await refused({ env: { A: 1 } }, /env.A is 1; give a string/);
    await refused({ env: ['A'] }, /give an object of strings/);
    await refused({ env: { A: 'x'.repeat(8_193) } }, /env.A has 8193 bytes; at most 8192/);
    await refused({ env: Object.fromEntries(Array.from({ length: 101 }, (_, i) => [`A${i}`, ''])) }, /101 names; at most 100/);
    await refused(
      { env: Object.fromEntries(Array.from({ length: 5 }, (_, i) => [`A${i}`, 'x'.repeat(8_000)])) },
      /bytes in all; at most 32768/,
    );
    await refused({ stdin: 5 }, /stdin is 5; give a string/);
    await refused({ stdin: 'ä'.repeat(131_073) }, /stdin has 262146 bytes; at most 262144/);
  });

  describe.runIf(existsSync('/usr/bin/bwrap'))('in the local sandbox', () => {
    it('reaches the program, and what the program used is kept', async () => {
      const own = runner({ executor: localSandbox() });
      await own.worker().start();
      const { run, log } = await runToEnd(
        own,
        'import os, sys, time\nprint(os.environ["LEVEL"], len(sys.stdin.read()))\nx = bytearray(64 << 20)\nend = time.process_time() + 0.4\nwhile time.process_time() < end: pass\ntime.sleep(0.3)\n',
        { stdin: 'x'.repeat(262_144), env: { LEVEL: 'three' } },
      );
      expect([run.state, log]).toEqual([3, 'three 262144\n']);
      const { cpuMs, wallMs, peakMemoryBytes } = run.usage ?? {};
      expect(cpuMs).toBeGreaterThanOrEqual(390);
      expect(cpuMs).toBeLessThan(5_000);
      expect(wallMs).toBeGreaterThanOrEqual(690);
      // Only a cgroup tells.
      if ((peakMemoryBytes ?? null) !== null) expect(peakMemoryBytes).toBeGreaterThan(64 << 20);
      const [listed] = await own.runs.list(alice);
      expect(listed?.usage).toEqual(run.usage);
      // The next run in the same place is measured anew.
      const small = await runToEnd(own, 'print(1)');
      expect(small.run.usage?.cpuMs).toBeLessThan(390);
      if ((small.run.usage?.peakMemoryBytes ?? null) !== null) expect(small.run.usage?.peakMemoryBytes).toBeLessThan(64 << 20);
    });
  });
});
