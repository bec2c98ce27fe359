import { buffer } from 'node:stream/consumers';
import { coreSchema, migrate } from '@holdfast/core';
import { type TestDatabase, testDialects, watchfulLogger } from '@holdfast/core/testing';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  type CodeRunner,
  type CodeRunnerOptions,
  codeRunnerSchema,
  createCodeRunner,
  python,
  type Run,
  type RunEvent,
} from '../src/index.ts';

export interface Suite {
  readonly db: TestDatabase;
  /** A runner of Python programs; without an executor unless one is given. */
  runner(options?: Partial<CodeRunnerOptions>): CodeRunner;
}

/** The same tests on every database that is up, each file in a database of its own. */
export function onEveryDatabase(name: string, tests: (suite: Suite) => void, only?: readonly string[]): void {
  const dialects = testDialects().filter((dialect) => !only || only.includes(dialect.name));
  if (dialects.length === 0) it.skip(`${name}: none of ${only?.join(', ')} is up`, () => undefined);
  describe.each(dialects)(`${name} on $name`, (dialect) => {
    let db: TestDatabase | undefined;
    const logger = watchfulLogger();
    const runners: CodeRunner[] = [];
    const there = (): TestDatabase => {
      if (!db) throw new Error('the database is made in beforeAll');
      return db;
    };
    beforeAll(async () => {
      db = await dialect.create();
      await migrate(db.knex, [coreSchema, codeRunnerSchema]);
    });
    afterEach(async () => {
      for (const runner of runners.splice(0)) await runner.close();
    });
    afterAll(async () => {
      await db?.drop();
      expect(logger.refusals, 'statements that the database refused').toEqual([]);
    });
    tests({
      get db() {
        return there();
      },
      runner(options = {}) {
        const runner = createCodeRunner({ knex: there().knex, logger, languages: [python()], ...options });
        runners.push(runner);
        return runner;
      },
    });
  });
}

export const alice = { actor: 'alice' };

/** A task of one Python file, submitted. */
export async function submit(
  runner: CodeRunner,
  code: string,
  more: Partial<Parameters<CodeRunner['runs']['submit']>[1]> = {},
): Promise<Run> {
  const task = await runner.tasks.create({ ...alice, name: 'test', language: 'python', files: { 'run.py': code }, main: 'run.py' });
  return runner.runs.submit(task.id, { ...alice, ...more });
}

/** All events of a run, up to its end. */
export async function eventsOf(runner: CodeRunner, id: string, after = 0): Promise<RunEvent[]> {
  const events: RunEvent[] = [];
  for await (const event of runner.runs.events(id, { ...alice, after, signal: AbortSignal.timeout(50_000) })) events.push(event);
  return events;
}

export function logOf(events: readonly RunEvent[], stream?: 'stdout' | 'stderr' | 'system'): string {
  return Buffer.concat(
    events.flatMap((event) => (event.type === 'log' && (!stream || event.stream === stream) ? [event.bytes] : [])),
  ).toString();
}

/** Submits, waits for the end, and returns what there is to know. */
export async function runToEnd(
  runner: CodeRunner,
  code: string,
  more: Partial<Parameters<CodeRunner['runs']['submit']>[1]> = {},
): Promise<{ readonly run: Run; readonly log: string; readonly events: readonly RunEvent[] }> {
  const { id } = await submit(runner, code, more);
  const events = await eventsOf(runner, id);
  return { run: await runner.runs.get(id, alice), log: logOf(events), events };
}

export async function textOf(stream: AsyncIterable<Uint8Array>): Promise<string> {
  return (await buffer(stream as never)).toString();
}
