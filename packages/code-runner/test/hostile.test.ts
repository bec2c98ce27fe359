import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { coreSchema, migrate, silentLogger } from '@holdfast/core';
import { type TestDatabase, type TestDialect, testDialects } from '@holdfast/core/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type CodeRunner,
  codeRunnerSchema,
  createCodeRunner,
  defaultRunLimits,
  type ExecutionSpec,
  type Executor,
  python,
  type RunnerWorker,
} from '../src/index.ts';
import { localSandbox } from '../src/sandbox/index.ts';
import { alice, eventsOf, logOf, runToEnd, submit, textOf } from './suite.ts';

const mib = 2 ** 20;
const sandboxed = existsSync('/usr/bin/bwrap');

describe.runIf(sandboxed)('programs that mean harm, in the local sandbox', () => {
  let db: TestDatabase;
  let executor: Executor;
  let runner: CodeRunner;
  let worker: RunnerWorker;
  beforeAll(async () => {
    db = await (testDialects()[0] as TestDialect).create();
    await migrate(db.knex, [coreSchema, codeRunnerSchema]);
    executor = localSandbox({ killAfterMs: 500 });
    process.env.HOLDFAST_TEST_SECRET = 'the-runners-own-secret';
    runner = createCodeRunner({
      knex: db.knex,
      languages: [python()],
      executor,
      logger: silentLogger,
      pools: {
        small: { slots: 4, limits: { memoryBytes: 128 * mib, diskBytes: 32 * mib, timeoutMs: 20_000, processes: 32, outputBytes: mib } },
      },
    });
    worker = runner.worker({ grace: 500 });
    await worker.start();
  });
  afterAll(async () => {
    await runner?.close();
    await db?.drop();
  });

  it('run in the isolation that this machine has', async () => {
    const { details } = await executor.probe();
    expect(details).toMatchObject({
      namespaces: true,
      seccomp: true,
      onlyListedCalls: true,
      noNewPrivileges: true,
      noCapabilities: true,
      onlyOwnDescriptors: true,
    });
  });

  it('an execution that is started twice at the same time runs once', async () => {
    // Its own sandbox: the worker's sweep removes what no run needs.
    const own = localSandbox();
    const spec = sleeper('twice');
    await Promise.all([own.start(spec, { signal }), own.start(spec, { signal })]);
    await expect.poll(() => processesOf(spec, ['-x']), { timeout: 5_000 }).toBe(1);
    await own.close();
    await expect.poll(() => processesOf(spec), { timeout: 5_000 }).toBe(0);
  });

  it('one that is removed while its sandbox is being made does not begin', async () => {
    const own = localSandbox();
    for (let i = 0; i < 5; i++) {
      const spec = sleeper(`removed-${i}`);
      await own.start(spec, { signal });
      await own.remove(spec);
      await expect.poll(() => processesOf(spec), { timeout: 5_000 }).toBe(0);
    }
    await own.close();
  });

  it('a fork bomb is held at its number of processes, and named', async () => {
    const { run, log } = await runToEnd(
      runner,
      'import os, time, sys\nn = 0\ntry:\n  while True:\n    if os.fork() == 0: time.sleep(60); os._exit(0)\n    n += 1\nexcept OSError as e:\n  print("forks", n, e)\n  sys.exit(7)\n',
    );
    // The group has room for the sandbox's own three; how many of these there are at that moment is up to shell and kernel.
    expect(Number(/forks (\d+)/.exec(log)?.[1])).toBeLessThanOrEqual(32 + 3);
    expect(run).toMatchObject({ state: 4, reason: 'EXIT_NONZERO', exitCode: 7 });
    expect(run.message).toMatch(/exit code 7.*more than the 32 processes/);
    // One that never gives up runs into its time.
    const bomb = await runToEnd(runner, 'import os\nwhile True:\n  try: os.fork()\n  except OSError: pass', {
      limits: { timeoutMs: 2_000, outputBytes: mib },
    });
    expect(bomb.run).toMatchObject({ state: 4, reason: 'TIMEOUT' });
    expect(bomb.run.message).toMatch(/more than the 32 processes/);
  });

  it('one that takes all memory is OOM, whether it allocates or fills a file system in memory', async () => {
    const hog = await runToEnd(runner, 'x = []\nwhile True: x.append(bytearray(1 << 20))');
    expect(hog.run).toMatchObject({ state: 4, reason: 'OOM' });
    expect(hog.run.message).toMatch(/128 MiB/);
    // Its neighbour has limits of its own: what one uses is not taken from the other.
    const [a, b] = await Promise.all([1, 2].map(() => runToEnd(runner, 'x = bytearray(90 << 20)\nprint(len(x))')));
    expect([a?.run.state, b?.run.state]).toEqual([3, 3]);
  });

  it('one whose files in memory take what it may use is DISK, not OOM', async () => {
    const { run } = await runToEnd(
      runner,
      'f = open("/tmp/f", "wb")\nfor i in range(30): f.write(b"x" * (1 << 20))\ng = open("/scratch/g", "wb")\nfor i in range(100): g.write(b"x" * (1 << 20))\n',
      { limits: { memoryBytes: 40 * mib } },
    );
    expect(run).toMatchObject({ state: 4, reason: 'DISK' });
    expect(run.message).toMatch(/took .* They count as memory, of which it may use 40 MiB/);
  });

  it.each(['/scratch', '/tmp', '/out', '/dev/shm'])('one that fills %s is told so, and is DISK', async (folder) => {
    const { run, log } = await runToEnd(
      runner,
      `import sys\ntry:\n  for i in range(100):\n    with open("${folder}/f%d" % i, "wb") as f: f.write(b"x" * (1 << 20))\nexcept OSError as e:\n  print(i, e)\n  sys.exit(1)\n`,
    );
    expect(log).toMatch(/No space left/);
    expect(run).toMatchObject({ state: 4, reason: 'DISK' });
    expect(run.message).toContain(`${folder}: at most 32 MiB`);
  });

  it('nothing else can be written: not the code, the data, the system, the root, devices', async () => {
    const { log } = await runToEnd(
      runner,
      'import os\nfor p in ["/code/run.py", "/code/new", "/data/new", "/usr/new", "/etc/new", "/new", "/dev/new", "/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger"]:\n  try:\n    open(p, "a").close(); print("WROTE", p)\n  except OSError as e: print(p, e.strerror)\n',
    );
    expect(log).not.toContain('WROTE');
    expect(log.trim().split('\n')).toHaveLength(9);
  });

  it('/dev/stdout and /dev/stderr can be opened, and lead to the log', async () => {
    const { run, log, events } = await runToEnd(
      runner,
      'for n in ("stdout", "stderr"):\n  with open("/dev/" + n, "w") as f: f.write("to " + n + "\\n")\nprint("and on")\n',
    );
    expect(log).toContain('and on');
    expect([run.state, logOf(events, 'stdout'), logOf(events, 'stderr')]).toEqual([3, 'to stdout\nand on\n', 'to stderr\n']);
  });

  it('endless output is cut with a marker, and OUTPUT_LIMIT; what was printed before is kept to the byte', async () => {
    const { run, events } = await runToEnd(runner, 'import sys\nline = "x" * 99 + "\\n"\nwhile True: sys.stdout.write(line)');
    expect(run).toMatchObject({ state: 4, reason: 'OUTPUT_LIMIT' });
    const printed = logOf(events, 'stdout');
    expect(printed.length).toBe(mib);
    expect(printed.slice(0, 100)).toBe(`${'x'.repeat(99)}\n`);
    expect(logOf(events, 'system')).toMatch(/output was cut here: more than 1048576 bytes/);
    expect(run.logBytes).toBe(mib);
  });

  it('an endless loop is TIMEOUT, and one that ignores SIGTERM is killed', async () => {
    const started = performance.now();
    const { run } = await runToEnd(runner, 'import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass', {
      limits: { timeoutMs: 1_000 },
    });
    expect(run).toMatchObject({ state: 4, reason: 'TIMEOUT' });
    expect(performance.now() - started).toBeLessThan(6_000);
  });

  it('one whose time is over, or that is stopped, before it has begun does not begin', async () => {
    const started = performance.now();
    const { run } = await runToEnd(runner, 'while True: pass', { limits: { timeoutMs: 1 } });
    expect(run).toMatchObject({ state: 4, reason: 'TIMEOUT' });
    const { id } = await submit(runner, 'while True: pass');
    for await (const event of runner.runs.events(id, { ...alice, signal: AbortSignal.timeout(20_000) }))
      if (event.type === 'state' && event.phase === 'starting') break;
    await runner.runs.terminate(id, alice);
    await eventsOf(runner, id);
    expect(await runner.runs.get(id, alice)).toMatchObject({ state: 5 });
    expect(performance.now() - started).toBeLessThan(5_000);
  });

  it('one that is stopped may put things in order, and what it leaves is collected', async () => {
    const { id } = await submit(
      runner,
      'import signal, sys, time\ndef end(*_):\n  print("in order", flush=True)\n  open("/out/last", "w").write("words")\n  sys.exit(0)\nsignal.signal(signal.SIGTERM, end)\nsys.stdout.write("up\\n")\ntime.sleep(60)',
    );
    for await (const event of runner.runs.events(id, { ...alice, signal: AbortSignal.timeout(20_000) })) if (event.type === 'log') break;
    const stopping = await runner.runs.terminate(id, alice);
    expect(stopping).toMatchObject({ state: 2, stoppedBy: 'alice' });
    const events = await eventsOf(runner, id);
    expect(logOf(events)).toBe('up\nin order\n');
    const run = await runner.runs.get(id, alice);
    expect(run).toMatchObject({ state: 5, reason: null, stoppedBy: 'alice', output: { files: [{ path: 'last', size: 5 }] } });
    expect(await textOf(await runner.runs.output(id, 'last', alice))).toBe('words');
    await expect(runner.runs.terminate(id, alice)).rejects.toMatchObject({ code: 'run-ended' });
  });

  it('there is no network, not even to this machine', async () => {
    const server = createServer((socket) => socket.end('reached')).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port } = server.address() as { port: number };
    let reached = 0;
    server.on('connection', () => {
      reached += 1;
    });
    const { log } = await runToEnd(
      runner,
      `import socket\nfor f, a in [(socket.AF_INET, ("127.0.0.1", ${port})), (socket.AF_INET, ("1.1.1.1", 53)), (socket.AF_INET6, ("::1", ${port}))]:\n  s = socket.socket(f); s.settimeout(2)\n  try:\n    s.connect(a); print("REACHED", a)\n  except OSError as e: print(e)\ntry:\n  socket.getaddrinfo("example.com", 80); print("REACHED")\nexcept OSError as e: print(e)\nfor f in [40, 17, 38]:\n  try:\n    socket.socket(f, socket.SOCK_STREAM if f == 40 else socket.SOCK_RAW); print("REACHED", f)\n  except OSError as e: print(f, e.strerror)\n`,
    );
    server.close();
    expect(log).not.toContain('REACHED');
    expect(log).toMatch(/40 Operation not permitted/);
    expect(reached).toBe(0);
  });

  it("the machine's secrets, the runner's environment and others' files are not there", async () => {
    const other = await submit(runner, 'import time\nopen("/scratch/mine", "w").write("private"); print("up", flush=True); time.sleep(3)');
    for await (const event of runner.runs.events(other.id, { ...alice, signal: AbortSignal.timeout(20_000) }))
      if (event.type === 'log') break;
    const { log } = await runToEnd(
      runner,
      'import os, glob\nprint(sorted(os.environ))\nfor p in ["/etc/shadow", "/etc/passwd", "/root", "/home", "/var", "/work", "/proc/1/environ", "/proc/1/root/etc/shadow", "/proc/2/environ", "/sys/kernel", "/run"]:\n  try:\n    print(p, sorted(os.listdir(p)) if os.path.isdir(p) else open(p, "rb").read())\n  except OSError as e: print(p, e.strerror)\nprint("pids", sorted(int(p) for p in os.listdir("/proc") if p.isdigit()))\nprint(glob.glob("/tmp/*"), glob.glob("/scratch/*"), os.getuid(), os.listdir("/"))\n',
    );
    expect(log).not.toContain('the-runners-own-secret');
    expect(log).not.toContain('HOLDFAST');
    expect(log).toMatch(/\/etc\/shadow No such file/);
    expect(log).not.toContain('root:');
    expect(log).toMatch(/\/work No such file/);
    expect(log).not.toContain('mine');
    expect(Math.max(...(/pids \[(.*)\]/.exec(log)?.[1]?.split(', ').map(Number) ?? [99]))).toBeLessThan(10);
    await eventsOf(runner, other.id);
  });

  it('files of runs are closed to other users, and those of a killed service are removed by the next', async () => {
    const parent = mkdtempSync(join(tmpdir(), 'holdfast-parent-'));
    chmodSync(parent, 0o755);
    const script = `import { localSandbox } from '${join(import.meta.dirname, '..', 'src', 'sandbox', 'index.ts')}';
      await localSandbox({ folder: ${JSON.stringify(parent)} }).probe(); process.kill(process.pid, 'SIGKILL');`;
    spawnSync(process.execPath, ['--conditions=@holdfast/source', '--input-type=module', '-e', script]);
    const left = readdirSync(parent);
    expect(left).toHaveLength(1);
    const [one, two] = [localSandbox({ folder: parent }), localSandbox({ folder: parent })];
    const spec = sleeper('private');
    await one.start(spec, { signal });
    await two.probe();
    const there = readdirSync(parent);
    expect(there).toHaveLength(2);
    expect(there).not.toContain(left[0]);
    const [folder = ''] = there.filter((name) => existsSync(join(parent, name, 'private-1')));
    const path = join(parent, folder, 'private-1', 'code', 'run.py');
    expect(existsSync(path)).toBe(true);
    // Somebody of this machine, if this test may become them.
    if (process.getuid?.() === 0) expect(spawnSync('/bin/cat', [path], { uid: 60_000, gid: 60_000 }).status).toBe(1);
    expect(statSync(join(parent, folder, 'private-1')).mode & 0o777).toBe(0o700);
    await expect.poll(() => processesOf(spec, ['-x']), { timeout: 5_000 }).toBe(1);
    await one.close();
    await two.close();
    expect(readdirSync(parent)).toEqual([]);
    rmSync(parent, { recursive: true });
  });

  it('limits that the kernel refuses end the start for good, and its place is used again', async () => {
    const { details } = await executor.probe();
    const groups = (): string[] => readdirSync('/sys/fs/cgroup/pids').filter((name) => name.startsWith(`holdfast-runner-${process.pid}-`));
    const own = localSandbox();
    await own.probe();
    const before = groups().length;
    for (let n = 0; n < 5; n++) {
      const spec = { ...sleeper(`refused-${n}`), limits: { ...defaultRunLimits, memoryBytes: 0.5 } };
      // Not retryable: a retry would be refused too.
      if (details.cgroups !== false)
        await expect(own.start(spec, { signal })).rejects.toMatchObject({ code: 'executor-unavailable', retryable: false });
      const unreadable = { ...sleeper(`unreadable-${n}`), files: [{ path: 'x', size: 1, open: () => Promise.reject(new Error('away')) }] };
      await expect(own.start(unreadable, { signal })).rejects.toThrow('away');
    }
    expect(groups().length).toBeLessThanOrEqual(before);
    expect(await own.list()).toEqual([]);
    const good = sleeper('after');
    await own.start(good, { signal });
    await expect.poll(() => processesOf(good, ['-x']), { timeout: 5_000 }).toBe(1);
    await own.close();
  });

  it('a folder of the machine that the service itself has open, from whoever started it, is not there', () => {
    const folder = mkdtempSync(join(tmpdir(), 'holdfast-open-'));
    chmodSync(folder, 0o755);
    writeFileSync(join(folder, 'of-the-machine'), '');
    const open = openSync(folder, 'r');
    const stdio: (number | 'ignore' | 'pipe')[] = ['ignore', 'pipe', 'pipe', open, 'ignore', open];
    for (let n = stdio.length; n < 200; n++) stdio.push(n === 9 ? open : 'ignore');
    stdio.push(open);
    const script = join(import.meta.dirname, 'victim', 'inheriting.ts');
    const { stdout, stderr } = spawnSync(process.execPath, ['--conditions=@holdfast/source', script], { encoding: 'utf8', stdio });
    closeSync(open);
    rmSync(folder, { recursive: true });
    expect(stderr).not.toMatch(/Error/);
    expect(stdout).toContain('"onlyOwnDescriptors":true');
    expect(stdout).not.toContain('of-the-machine');
    expect(stdout).toMatch(/Not a directory|No such file/);
  });

  it.each([130, 137, 141, 143])('an exit code of %i is the program’s own, or that of a signal', async (code) => {
    const own = await runToEnd(runner, '', { argv: ['/bin/sh', '-c', `exit ${code}`] });
    expect(own.run).toMatchObject({ state: 4, reason: 'EXIT_NONZERO', exitCode: code, signal: null });
    const killed = await runToEnd(runner, '', { argv: ['/bin/sh', '-c', `kill -${code - 128} $$; sleep 5`] });
    expect(killed.run).toMatchObject({ state: 4, reason: 'SIGNAL', exitCode: code });
    expect([own.log, killed.log]).toEqual(['', '']);
  });

  it('a link out of the sandbox leads nowhere: it is not followed, and not kept', async () => {
    const { run } = await runToEnd(
      runner,
      'import os\nos.symlink("/etc/shadow", "/out/shadow")\nos.symlink("/proc/1/root", "/out/root")\nos.mkdir("/out/d"); os.symlink("../../../../../../etc", "/out/d/etc")\nos.mkfifo("/out/pipe")\nopen("/out/real", "w").write("kept")\nopen("/out/bad\\\\name", "w").write("no")\n',
    );
    expect(run).toMatchObject({ state: 3, output: { files: [{ path: 'real', size: 4 }], truncated: false } });
  });

  it('what is left behind in a session of its own ends with the run, and holds nothing up', async () => {
    const started = performance.now();
    const { run, log } = await runToEnd(
      runner,
      'import os, time\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0:\n    print("daemon", flush=True)\n    time.sleep(47.11)\n  os._exit(0)\ntime.sleep(0.3)\nprint("done")\n',
    );
    expect(run.state).toBe(3);
    expect(log).toContain('daemon');
    expect(log).toContain('done');
    expect(performance.now() - started).toBeLessThan(4_000);
    expect(spawnSync('pgrep', ['-f', '47\\.11'], { encoding: 'utf8' }).stdout).toBe('');
  });

  it('the kernel refuses what no program needs', async () => {
    const { log } = await runToEnd(
      runner,
      'import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\ndef call(name, *args):\n  r = libc.syscall(*args); print(name, r, os.strerror(ctypes.get_errno()) if r < 0 else "ALLOWED")\nimport platform\nn = {"x86_64": (272, 101, 165, 425, 321, 298, 250), "aarch64": (97, 117, 40, 425, 280, 241, 219)}[platform.machine()]\nfor name, number in zip(["unshare", "ptrace", "mount", "io_uring", "bpf", "perf", "keyctl"], n): call(name, number, 0x10000000 if name == "unshare" else 0, 0, 0, 0, 0)\n',
    );
    expect(log.trim().split('\n')).toHaveLength(7);
    expect(log).not.toContain('ALLOWED');
  });

  it('a call that is not on the list is refused, and one that is newer than the list does not exist', async () => {
    // None of these is on the list: a number that no call has, open_tree_attr of Linux 6.15, and numbers of later kernels.
    const { log } = await runToEnd(
      runner,
      'import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\nfor n in (400, 467, 469, 600):\n  r = libc.syscall(n, -1, -1, -1, -1)\n  print(n, r, ctypes.get_errno())\n',
    );
    expect(log).toBe('400 -1 1\n467 -1 38\n469 -1 38\n600 -1 38\n');
  });

  it('a program that kills everything it can reach reaches nothing but its own', async () => {
    const { run, log } = await runToEnd(
      runner,
      'import os, signal\nprint("before", flush=True)\nfor target in [-1, 1]:\n  try: os.kill(target, signal.SIGKILL)\n  except OSError as e: print(e.strerror)\nprint("after")\n',
    );
    expect(log).toMatch(/^before\n(.*\n)*after\n$/);
    expect(run).toMatchObject({ state: 3 });
  });

  it('nothing is left of any of them', async () => {
    await expect.poll(async () => (await executor.list()).length, { timeout: 10_000 }).toBe(0);
    expect(await db.knex('holdfast_slot').whereNotNull('holder')).toEqual([]);
    const mine = readdirSync('/proc').filter((pid) => {
      try {
        return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('/usr/bin/bwrap');
      } catch {
        return false;
      }
    });
    expect(mine.filter((pid) => readFileSync(`/proc/${pid}/status`, 'utf8').includes(`PPid:\t${process.pid}\n`))).toEqual([]);
  });
});

const { signal } = new AbortController();
let sleepers = 0;

/** A program that sleeps for a time that no other process sleeps for. */
function sleeper(runId: string): ExecutionSpec {
  return {
    runId,
    attempt: 1,
    jobUid: '0'.repeat(32),
    taskId: '1',
    actor: 'alice',
    language: python(),
    command: ['/bin/sleep', `60.${process.pid}${++sleepers}`],
    limits: defaultRunLimits,
    files: [{ path: 'run.py', size: 0, open: async () => Buffer.alloc(0) }],
    dataSets: [],
  };
}

/** Processes whose command line has the program's (with `-x`: is the program's). */
function processesOf({ command }: ExecutionSpec, more: readonly string[] = []): number {
  const { stdout } = spawnSync('pgrep', [...more, '-f', command.join(' ')], { encoding: 'utf8' });
  return stdout.split('\n').filter(Boolean).length;
}
