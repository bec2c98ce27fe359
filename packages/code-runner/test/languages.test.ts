import { existsSync } from 'node:fs';
import { coreSchema, migrate, silentLogger } from '@holdfast/core';
import { type TestDatabase, type TestDialect, testDialects } from '@holdfast/core/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CodeRunner, codeRunnerSchema, createCodeRunner, python } from '../src/index.ts';
import { localSandbox } from '../src/sandbox/index.ts';
import { runToEnd } from './suite.ts';

const c = `cat > /scratch/x.c <<'C'
#include <pthread.h>
#include <stdio.h>
static void *run(void *x) { puts("thread"); return x; }
int main(void) { pthread_t t; pthread_create(&t, 0, run, 0); pthread_join(t, 0); puts("done"); return 0; }
C
gcc -pthread -o /scratch/x /scratch/x.c && exec /scratch/x`;

/** Programs that use what their language asks the kernel for: threads, processes, pipes, sockets, time. */
const programs: readonly (readonly [program: string, argv: readonly string[]])[] = [
  [
    '/bin/bash',
    [
      'bash',
      '-c',
      'diff <(echo thread) <(printf "thread\\n") && echo thread | cat; coproc cat; echo done >&${COPROC[1]}; read -r x <&${COPROC[0]}; echo $x',
    ],
  ],
  ['/usr/bin/perl', ['perl', '-e', 'print "thread\\n"; $| = 1; my $p = fork // die; exit 0 unless $p; waitpid $p, 0; print `echo done`']],
  ['/usr/bin/gcc', ['/bin/sh', '-c', c]],
  [
    '/usr/bin/python3',
    [
      'python3',
      '-c',
      'import asyncio, concurrent.futures, mmap, socket, subprocess, threading\nt = threading.Thread(target=lambda: print("thread")); t.start(); t.join()\nwith concurrent.futures.ProcessPoolExecutor(2) as e: assert list(e.map(abs, [-1, 2])) == [1, 2]\nasync def main():\n  s = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)\n  await asyncio.open_connection(*s.sockets[0].getsockname())\n  p = await asyncio.create_subprocess_exec("true")\n  assert await p.wait() == 0\nasyncio.run(main())\nprint("done")',
    ],
  ],
  [
    '/usr/bin/node',
    [
      'node',
      '-e',
      'const { Worker } = require("worker_threads"); new Worker("console.log(\\"thread\\")", { eval: true }).on("exit", () => require("fs").promises.readFile("/etc/passwd").then(() => require("child_process").exec("echo done", (e, out) => process.stdout.write(out))))',
    ],
  ],
];

describe.runIf(existsSync('/usr/bin/bwrap'))('programs of languages that are not registered, in the local sandbox', () => {
  let db: TestDatabase;
  let runner: CodeRunner;
  beforeAll(async () => {
    db = await (testDialects()[0] as TestDialect).create();
    await migrate(db.knex, [coreSchema, codeRunnerSchema]);
    runner = createCodeRunner({ knex: db.knex, languages: [python()], executor: localSandbox(), logger: silentLogger });
    await runner.worker().start();
  });
  afterAll(async () => {
    await runner?.close();
    await db?.drop();
  });

  it.each(programs.filter(([program]) => existsSync(program)))('%s does what it does elsewhere', async (_, argv) => {
    const { run, log } = await runToEnd(runner, '', { argv });
    expect([run.state, log]).toEqual([3, 'thread\ndone\n']);
  });
});
