import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';

let folder: string | undefined;
afterEach(() => {
  if (folder) rmSync(folder, { recursive: true, force: true });
});

/** Runs a program in a process of its own. Returns its exit code (13: a promise that it awaited never settled) and its output. */
function run(program: string): string {
  // Inside the package, so that its imports resolve.
  folder = mkdtempSync(join(import.meta.dirname, '.program-'));
  const file = join(folder, 'program.ts');
  writeFileSync(file, program);
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--conditions=@holdfast/source', '--disable-warning=ExperimentalWarning', file],
    { encoding: 'utf8', timeout: 50_000 },
  );
  return `${status} ${stdout}${stderr}`.trim();
}

it.each([
  ['a pause of its own', 'await wait(300);', '0 continued'],
  [
    'a loop that was started',
    "const loop = defineLoop({ name: 'l', logger: silentLogger, runOnce: async () => undefined, minMs: 300 }); await loop.start(); setTimeout(() => loop.stop().then(() => console.log('stopped')), 900).unref();",
    '0 continued\nstopped',
  ],
])('keeps the process alive for %s', (_, statement, expected) => {
  expect(run(`import { defineLoop, silentLogger, wait } from '@holdfast/core';\n${statement}\nconsole.log('continued');`)).toBe(expected);
});

/** The two ways in which a function fails, as source text. */
const failures = { throws: "() => { throw new Error('mine'); }", rejects: "async () => { throw new Error('mine'); }" };
const calls: Record<string, (fails: string) => string> = {
  'a listener to an event': (fails) => `const events = new Events(logger); events.on('x', ${fails}); events.emit('x', {});`,
  'a thenable of a listener': () =>
    "const events = new Events(logger); events.on('x', () => ({ then(_, no) { no(new Error('mine')); } })); events.emit('x', {});",
  'a function after a commit': (fails) =>
    `await knex.transaction(async (trx) => { await afterCommit(trx, ${fails}); await trx.raw('CREATE TABLE t (id INTEGER)'); });`,
  'a listener to wake-ups': (fails) =>
    `localWaker({}).listen('c', ${fails}); const w = localWaker(knex); w.listen('c', ${fails}); w.wake('c');`,
  'a waker of the service': (fails) =>
    `new Wakers({ database, channel: 'c', logger, waker: { reliable: true, wake: ${fails}, listen: () => () => undefined, close: async () => undefined } }).wake();`,
  'the logger of a loop': (fails) =>
    `const bad = ${fails}; const loop = defineLoop({ name: 'l', logger: { debug: bad, info: bad, warn: bad, error: bad }, runOnce: async () => { throw new Error('pass'); } }); await loop.start(); await wait(20); await loop.stop();`,
  'the logger of events': (fails) =>
    `const bad = ${fails}; const events = new Events({ debug: bad, info: bad, warn: bad, error: bad }); events.on('x', ${fails}); events.emit('x', {});`,
  'the pause of a loop': () =>
    "const loop = defineLoop({ name: 'l', logger, runOnce: async () => 1, pauseMs: () => { throw new Error('mine'); } }); await loop.start(); await wait(20); await loop.stop();",
  'the errors of a drain': (fails) =>
    `let n = 1; const drain = new Drain({ pending: () => n > 0, step: async () => { if (n++ < 2) throw new Error('step'); n = 0; }, onError: ${fails} }); drain.start(); await drain.running;`,
};

it.each(Object.entries(calls).flatMap(([what, of]) => Object.entries(failures).map(([how, fails]) => [what, how, of(fails)] as const)))(
  'goes on when %s %s',
  (_what, _how, statement) => {
    const program = `
    import { afterCommit, Database, defineLoop, Drain, Events, localWaker, Wakers, wait } from '@holdfast/core';
    import { openSqlite } from '@holdfast/core/sqlite';
    const seen = [];
    const log = (fields, message) => void seen.push(message);
    const logger = { debug: log, info: log, warn: log, error: log };
    const knex = openSqlite(':memory:');
    const database = new Database({ knex });
    ${statement}
    await wait(20);
    await knex.destroy();
    console.log('alive', process.listenerCount('unhandledRejection'));`;
    expect(run(program)).toContain('0 alive 0');
  },
);
