import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionSpec, Executor, LogPiece } from '../executor/executor.ts';
import { defineLanguage } from '../languages/language.ts';
import type { Observed } from '../runs/decide.ts';
import { defaultRunLimits, type RunLimits } from '../runs/limits.ts';

/** The parts of a test runner that the contract needs, for example of vitest or node:test. */
export interface ContractApi {
  /** Defines a test: `it` of vitest, or `test` of node:test. */
  readonly it: (name: string, test: () => Promise<void>, timeoutMs?: number) => void;
  /** Fails unless the two are deeply equal. */
  readonly equal: (actual: unknown, expected: unknown) => void;
}

/** An executor under test, and the facts about it that the contract needs. */
export interface ExecutorUnderTest {
  /** Creates an executor for the same machine or cluster, as another process would. The contract closes it. */
  readonly connect: () => Executor;
  /** Container image with a POSIX shell, for executors that use images. Default `busybox:1.37`. */
  readonly image?: string;
  /** The longest time that a program may take to start, in ms. Default 10,000. */
  readonly startMs?: number;
}

const mib = 2 ** 20;

/** Defines tests of the {@link Executor} port, with real programs. Every executor must pass them. */
export function executorContract(under: ExecutorUnderTest, { it, equal }: ContractApi): void {
  const startMs = under.startMs ?? 10_000;
  const limitMs = startMs + 60_000;
  let runs = 0;
  const test = (name: string, body: (executor: Executor) => Promise<void>): void =>
    it(
      name,
      async () => {
        const executor = under.connect();
        try {
          await executor.probe();
          await body(executor);
        } finally {
          for (const object of await executor.list()) await executor.remove(object);
          await executor.close();
        }
      },
      limitMs,
    );
  const spec = (
    script: string,
    more: Omit<Partial<ExecutionSpec>, 'limits'> & { readonly limits?: Partial<RunLimits> } = {},
  ): ExecutionSpec => {
    runs += 1;
    const runId = `${process.pid}${String(runs).padStart(4, '0')}`;
    const content = Buffer.from(script);
    return {
      runId,
      attempt: 1,
      jobUid: runId.padStart(32, 'a'),
      taskId: '1',
      actor: 'somebody',
      language: defineLanguage({
        name: 'sh',
        template: { 'run.sh': '' },
        main: 'run.sh',
        image: under.image ?? 'busybox:1.37',
        requires: ['/bin/sh'],
      }),
      command: ['/bin/sh', 'run.sh', 'one', 'two words'],
      files: [{ path: 'run.sh', size: content.length, open: async () => Readable.from([content], { objectMode: false }) }],
      dataSets: [],
      ...more,
      limits: { ...defaultRunLimits, memoryBytes: 128 * mib, diskBytes: 32 * mib, timeoutMs: 30_000, ...more.limits },
    };
  };
  const signal = (): AbortSignal => AbortSignal.timeout(limitMs);
  const ended = async (executor: Executor, of: ExecutionSpec): Promise<Observed['status'] & { is: 'ended' }> => {
    for (;;) {
      for await (const seen of executor.observe(of, { signal: signal() })) if (seen?.status.is === 'ended') return seen.status;
      await sleep(50);
    }
  };
  const logOf = async (executor: Executor, of: ExecutionSpec, after: string | null = null): Promise<LogPiece[]> => {
    const pieces: LogPiece[] = [];
    for await (const piece of executor.logs(of, { after, signal: signal() })) pieces.push(piece);
    return pieces;
  };
  const text = (pieces: readonly LogPiece[]): string => Buffer.concat(pieces.map(({ bytes }) => bytes)).toString();
  const run = async (executor: Executor, of: ExecutionSpec) => {
    await executor.start(of, { signal: signal() });
    const [log, status] = await Promise.all([logOf(executor, of), ended(executor, of)]);
    return { log: text(log), ...status.ending };
  };

  test('runs a program with its arguments, and reports its output and its end', async (executor) => {
    const done = await run(executor, spec('echo "$1/$2"; echo err >&2; pwd; cat run.sh | wc -l; exit 3\n'));
    equal(
      { ...done, log: done.log.split('\n').sort().join(), usage: (done.usage?.wallMs ?? -1) >= 0 },
      {
        log: ',/code,1,err,one/two words',
        state: 4,
        reason: 'EXIT_NONZERO',
        message: done.message,
        exitCode: 3,
        signal: null,
        usage: true,
      },
    );
    equal((await run(executor, spec('true'))).state, 3);
  });

  test('starts an execution once, however often it is requested, and lists it', async (executor) => {
    const one = spec('sleep 30');
    await Promise.all([executor.start(one, { signal: signal() }), executor.start(one, { signal: signal() })]);
    await executor.start(one, { signal: signal() });
    equal(
      (await executor.list()).map(({ runId, attempt, jobUid }) => ({ runId, attempt, jobUid })),
      [{ runId: one.runId, attempt: 1, jobUid: one.jobUid }],
    );
    await executor.remove(one);
    await executor.remove(one);
    equal(await executor.list(), []);
    for await (const seen of executor.observe(one, { signal: signal() })) equal(seen, undefined);
  });

  test('collects files from /out, also in folders, but no links', async (executor) => {
    const one = spec(
      'mkdir -p /out/a/b; printf hello > /out/a/b/c; ln -s /etc/passwd /out/link; head -c 100000 /dev/urandom > /out/random; wc -c < /out/random',
    );
    const done = await run(executor, one);
    equal(done.state, 3);
    const files = new Map<string, number>();
    for await (const { path, size, content } of executor.output(one, { limit: 2 ** 24, truncated: () => undefined })) {
      equal((await buffer(content)).length, size);
      files.set(path, size);
    }
    equal([...files].sort(), [
      ['a/b/c', 5],
      ['random', 100_000],
    ]);
  });

  test('a program can open its output by name: /dev/stdout, /dev/stderr', async (executor) => {
    const done = await run(
      executor,
      spec('set -e; echo one; echo two > /dev/stdout; echo three > /dev/stderr; echo four >> /dev/stdout; echo five | tee /dev/stderr'),
    );
    equal([done.state, done.log.split('\n').sort().join(' ').trim()], [3, 'five five four one three two']);
  });

  test('a program gets its environment, and reads the file that is its standard input', async (executor) => {
    const one = spec('echo "$LEVEL|$ODD|$1"; cat; echo "|$(cat | wc -c)"', {
      environment: { LEVEL: '3', ODD: "$(LEVEL) $LEVEL $$ ' \n\\é" },
      command: ['/bin/sh', 'run.sh', '$(LEVEL)$$'],
      stdinFile: '.stdin',
    });
    const content = Buffer.from('line 1\nno end');
    const done = await run(executor, {
      ...one,
      files: [...one.files, { path: '.stdin', size: content.length, open: async () => Readable.from([content], { objectMode: false }) }],
    });
    equal(done.log.replaceAll(/ +0$/gm, '0'), "3|$(LEVEL) $LEVEL $$ ' \n\\é|$(LEVEL)$$\nline 1\nno end|0\n");
    equal((await run(executor, spec('cat; echo none'))).log, 'none\n');
  });

  test('a program can write to /scratch, /tmp and /out only', async (executor) => {
    const done = await run(
      executor,
      spec('for p in /scratch/x /tmp/x /out/x /code/x /data/x /usr/x /x; do ( : > $p ) 2>/dev/null && echo "$p"; done; true'),
    );
    equal(done.log, '/scratch/x\n/tmp/x\n/out/x\n');
  });

  test('a program that is asked to end may clean up; one that refuses is killed', async (executor) => {
    const polite = spec("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done");
    await executor.start(polite, { signal: signal() });
    const log: LogPiece[] = [];
    for await (const piece of executor.logs(polite, { after: null, signal: signal() })) {
      log.push(piece);
      if (text(log) === 'up\n') await executor.stop(polite, { graceMs: 5_000 });
    }
    equal(text(log), 'up\nbye\n');
    await ended(executor, polite);
    await executor.stop(polite, { graceMs: 0 });
    const rude = spec("trap '' TERM; echo up; while :; do sleep 0.1; done");
    await executor.start(rude, { signal: signal() });
    for await (const piece of executor.logs(rude, { after: null, signal: signal() }))
      if (text([piece]) === 'up\n') await executor.stop(rude, { graceMs: 200 });
    const status = await ended(executor, rude);
    equal(status.ending.state === 3, false);
  });

  test('exceeding the time limit is TIMEOUT, exceeding the memory limit is OOM', async (executor) => {
    const late = await run(executor, spec('echo begun; sleep 60', { limits: { timeoutMs: 1_500 } }));
    equal([late.reason, late.log], ['TIMEOUT', 'begun\n']);
    const hog = await run(executor, spec('x=aaaaaaaaaaaaaaaa; while :; do x="$x$x"; done', { limits: { memoryBytes: 64 * mib } }));
    // Without a cgroup each process has its own limit, and an allocation above it fails; how the program then ends is up to it.
    const counted = (await executor.probe()).details.cgroups !== false;
    equal(counted ? hog.reason : hog.state, counted ? 'OOM' : 4);
  });

  test('a compile step runs before the program, and its failure is COMPILE', async (executor) => {
    const language = defineLanguage({
      name: 'c',
      template: { x: '' },
      main: 'x',
      image: under.image ?? 'busybox:1.37',
      requires: [],
      compile: 'echo compiling; test ! -e broken',
    });
    const broken = spec('echo never', { language });
    const done = await run(executor, {
      ...broken,
      files: [...broken.files, { path: 'broken', size: 0, open: async () => Readable.from([]) }],
    });
    equal([done.reason, done.log], ['COMPILE', 'compiling\n']);
    equal((await run(executor, spec('echo ran', { language }))).log, 'compiling\nran\n');
  });

  test('a large output arrives complete and in order, with lines of any length', async (executor) => {
    const done = await run(
      executor,
      spec('i=0; while [ $i -lt 3000 ]; do echo "line $i"; i=$((i+1)); done; head -c 100000 /dev/zero | tr "\\0" x; echo; printf "no end"'),
    );
    const expected = `${Array.from({ length: 3_000 }, (_, i) => `line ${i}\n`).join('')}${'x'.repeat(100_000)}\nno end`;
    equal(done.log.length, expected.length);
    equal(done.log === expected, true);
  });
}
