import { foreignErrors } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { alice, onEveryDatabase } from './suite.ts';

onEveryDatabase('odd values', (suite) => {
  const by = { actor: 'ann', reason: 'odd' };

  it('are answered, or refused with an error that says so, wherever a caller names a task, a run or a key', async () => {
    const runner = suite.runner();
    const { tasks, runs } = runner;
    const task = await tasks.create({ ...alice, name: 'odd', language: 'python', files: { 'run.py': 'print(1)' }, main: 'run.py' });
    const inspect = runner.inspect();
    expect(
      await foreignErrors({
        'tasks.create name': (name) => tasks.create({ ...alice, name, language: 'python' }),
        'tasks.create actor': (actor) => tasks.create({ actor, name: 'odd', language: 'python' }),
        'tasks.create language': (language) => tasks.create({ ...alice, name: 'odd', language }),
        'tasks.get': (id) => tasks.get(id, alice),
        'tasks.list before': (before) => tasks.list(alice, { before }),
        'tasks.list limit': (limit) => tasks.list(alice, { limit }),
        'tasks.update': (id) => tasks.update(id, { ...alice, name: 'even' }),
        'tasks.update name': (name) => tasks.update(task.id, { ...alice, name }),
        'tasks.remove': (id) => (id === task.id ? undefined : tasks.remove(id, alice)),
        'runs.submit': (id) => runs.submit(id, alice),
        'runs.submit idempotencyKey': (idempotencyKey) => runs.submit(task.id, { ...alice, idempotencyKey }),
        'runs.submit pool': (pool) => runs.submit(task.id, { ...alice, pool }),
        'runs.submit remarks': (remarks) => runs.submit(task.id, { ...alice, remarks }),
        'runs.submit priority': (priority) => runs.submit(task.id, { ...alice, priority }),
        'runs.get': (id) => runs.get(id, alice),
        'runs.list taskId': (taskId) => runs.list(alice, { taskId }),
        'runs.list before': (before) => runs.list(alice, { before }),
        'runs.list limit': (limit) => runs.list(alice, { limit }),
        get: (id) => inspect.get(id),
        ...Object.fromEntries(
          ['kind', 'key', 'subject', 'tenant', 'status', 'after', 'limit'].map((name) => [
            `list ${name}`,
            (value: never) => inspect.list({ [name]: value }),
          ]),
        ),
        ...Object.fromEntries(Object.entries(inspect.actions).map(([name, act]) => [name, (target: never) => act(target, by)])),
      }),
    ).toEqual([]);
  });
});
