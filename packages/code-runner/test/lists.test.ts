import { expect, it } from 'vitest';
import { alice, onEveryDatabase } from './suite.ts';

/** Beyond 9 and 99, where the order of numbers and the order of their texts part. */
const count = 103;

onEveryDatabase('lists', (suite) => {
  /** Reads a list page by page to its end. */
  async function paged(read: (before: string | undefined) => Promise<readonly { readonly id: string }[]>): Promise<string[]> {
    const ids: string[] = [];
    for (;;) {
      const page = await read(ids.at(-1));
      if (page.length === 0) return ids;
      ids.push(...page.map(({ id }) => id));
      expect(ids.length, 'a page was repeated').toBeLessThanOrEqual(count);
    }
  }
  const newestFirst = (ids: readonly string[]): string[] => [...ids].sort((a, b) => Number(b) - Number(a));

  it('have each task and each run once, newest first, over ids of 1, 2 and 3 digits', async () => {
    const runner = suite.runner();
    const tasks: string[] = [];
    const drafts: string[] = [];
    for (let n = 0; n < count; n++) {
      const task = await runner.tasks.create({ ...alice, name: `task ${n}`, language: 'python', files: {} });
      tasks.push(task.id);
      drafts.push(task.draftRunId ?? '');
    }
    expect(Math.max(...tasks.map(Number))).toBeGreaterThanOrEqual(100);
    for (const limit of [2, 7]) {
      expect(await paged((before) => runner.tasks.list(alice, { limit, ...(before ? { before } : {}) }))).toEqual(newestFirst(tasks));
      expect(await paged((before) => runner.runs.list(alice, { drafts: true, limit, ...(before ? { before } : {}) }))).toEqual(
        newestFirst(drafts),
      );
    }
  });

  it('of the runs of one task, over HTTP, and of an operator have them in order, too', async () => {
    const runner = suite.runner({ pools: { listed: { slots: 2 } } });
    const task = await runner.tasks.create({ ...alice, name: 'many', language: 'python' });
    const runs = Array.from({ length: count }, (_, n) => String(n + 1));
    const { knex } = suite.db;
    const draft = await knex('runner_run').where({ id: task.draftRunId }).first();
    await knex('runner_run').delete();
    for (const id of runs)
      await knex('runner_run').insert({
        ...draft,
        id,
        job_uid: id.padStart(32, '0'),
        phase: 'terminal',
        state: 3,
        pool: 'listed',
        log_packed: 1,
      });
    const { fetch } = runner.routes({ actor: () => 'alice' });
    const page = async (path: string, before: string | undefined): Promise<readonly { readonly id: string }[]> => {
      const response = await fetch(new Request(`http://runner${path}?limit=2${before ? `&before=${before}` : ''}`));
      return ((await response.json()) as { runs: { id: string }[] }).runs;
    };
    expect(await paged((before) => page('/runs', before))).toEqual(newestFirst(runs));
    expect(await paged((before) => page(`/tasks/${task.id}/runs`, before))).toEqual(newestFirst(runs));
    const operators = await paged(async (after) => (await runner.inspect().list({ limit: 2, ...(after ? { after } : {}) })) as never);
    expect(operators).toEqual(runs);
  });

  it('leave out the files that runs left, of which there may be 10,000 each; the run itself has them', async () => {
    const runner = suite.runner({ pools: { files: {} } });
    const task = await runner.tasks.create({ ...alice, name: 'files', language: 'python' });
    const output = { files: [{ path: 'a', size: 1 }], truncated: false };
    await suite.db
      .knex('runner_run')
      .where({ id: task.draftRunId })
      .update({ phase: 'terminal', state: 3, log_packed: 1, output: JSON.stringify(output) });
    const [listed] = await runner.runs.list(alice, { taskId: task.id });
    expect(listed).toMatchObject({ id: task.draftRunId, state: 3 });
    expect(listed).not.toHaveProperty('output');
    const { fetch } = runner.routes({ actor: () => 'alice' });
    expect(await (await fetch(new Request(`http://runner/tasks/${task.id}/runs`))).text()).not.toContain('output"');
    expect((await runner.runs.get(task.draftRunId ?? '', alice)).output).toEqual(output);
  });
});
