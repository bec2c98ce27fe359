import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { silentLogger } from '@holdfast/core';
import { until } from '@holdfast/core/testing';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { mavenJars } from '../../../tooling/services/maven-jars.ts';
import { createExecutor, type Executor } from '../src/index.ts';

const has = (program: string): boolean => {
  try {
    execFileSync(program, ['-version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
};

/** The client and the classes of an admin, from the jars that the admins of these versions are built on. */
describe.runIf(has('javac') && has('mvn')).each([
  { version: '2.2.0', protocol: '2.2' },
  { version: '2.3.1', protocol: '2.3' },
  { version: '2.5.0', protocol: '2.3' },
  { version: '3.2.0', protocol: '2.3' },
] as const)("an executor and xxl-job's own client of $version", ({ version, protocol }) => {
  let classpath: string;
  let admin: ChildProcess | undefined;
  let executor: Executor | undefined;
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-xxl-real-'));
  beforeAll(() => {
    const jars = mavenJars('com.xuxueli', 'xxl-job-core', version);
    const classes = mkdtempSync(join(folder, 'classes-'));
    classpath = [classes, ...readdirSync(jars).map((name) => join(jars, name))].join(':');
    execFileSync('javac', ['-cp', classpath, '-d', classes, join(import.meta.dirname, 'java', 'Admin.java')], { stdio: 'inherit' });
  }, 240_000);
  afterEach(async () => {
    await executor?.stop();
    if (admin?.exitCode === null) {
      const exited = once(admin, 'exit');
      admin.kill('SIGKILL');
      await exited;
    }
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it('understand each other', async () => {
    const child = spawn('java', ['-Dfile.encoding=UTF-8', '-cp', classpath, 'Admin', 'secret'], { stdio: ['pipe', 'pipe', 'ignore'] });
    admin = child;
    const lines: string[][] = [];
    createInterface({ input: child.stdout }).on('line', (line) => lines.push(line.split('\t')));
    const of = (what: string) => lines.filter(([first]) => first === what).map(([, ...rest]) => rest);
    const port = await until(() => of('port')[0]?.[0], { withinMs: 30_000, what: 'the JVM' });
    const seen: unknown[] = [];
    let killed = false;
    executor = createExecutor({
      admins: [`http://127.0.0.1:${port}/xxl-job-admin`],
      appName: 'real-core',
      accessToken: 'secret',
      port: 0,
      folder: join(folder, 'executor'),
      version: protocol,
      logger: silentLogger,
      handlers: {
        scan: async (param, { log, shard }) => {
          seen.push([param, shard]);
          log('zeile eins: äöü 张三');
          log('line two');
          if (param === 'bad') throw new Error('there is no database 9');
          return 'done';
        },
        long: (_param, { signal }) =>
          new Promise((_resolve, reject) =>
            signal.addEventListener('abort', () => {
              killed = true;
              reject(signal.reason);
            }),
          ),
      },
    });
    await executor.start();
    const { address } = executor;
    await until(() => of('registry').length > 0, { withinMs: 10_000, what: 'the registration' });
    expect(of('registry')[0]).toEqual(['EXECUTOR', 'real-core', address]);
    let asked = 0;
    const ask = async (...words: (string | number)[]): Promise<string[]> => {
      child.stdin.write(`${words.join('\t')}\n`);
      asked += 1;
      return until(() => of('answer')[asked - 1], { withinMs: 10_000, what: words.join(' ') });
    };
    const at = 1_763_700_000_000;
    const run = (jobId: number, logId: number, handler: string, param: string) =>
      ask('run', address, jobId, logId, at, handler, param, 'SERIAL_EXECUTION');
    const ended = (logId: number) =>
      until(() => of('callback').find(([id]) => id === String(logId)), { withinMs: 15_000, what: `the end of ${logId}` });

    expect((await ask('beat', address))[0]).toBe('200');
    expect((await run(1, 11, 'scan', '1,2'))[0]).toBe('200');
    expect(await ended(11)).toEqual(['11', String(at), '200', 'done']);
    expect(seen).toEqual([['1,2', [1, 3]]]);
    const [code, , log = ''] = await ask('log', address, at, 11, 1);
    expect(code).toBe('200');
    expect(log).toMatch(/^1 \d+ true /);
    expect(log).toContain('zeile eins: äöü 张三');
    expect(log).toContain('line two');
    await run(1, 12, 'scan', 'bad');
    expect(await ended(12)).toEqual(['12', String(at), '500', expect.stringContaining('there is no database 9')]);
    expect((await run(2, 13, 'nobody', ''))[0]).toBe('500');
    expect((await ask('idleBeat', address, 3))[0]).toBe('200');
    expect((await run(3, 14, 'long', ''))[0]).toBe('200');
    expect((await ask('idleBeat', address, 3))[0]).toBe('500');
    expect((await ask('kill', address, 3))[0]).toBe('200');
    expect((await ended(14))?.[2]).toBe('500');
    expect(killed).toBe(true);
    await executor.stop();
    expect(of('registryRemove')[0]).toEqual(['EXECUTOR', 'real-core', address]);
    expect(of('refused')).toEqual([]);
  }, 90_000);
});
