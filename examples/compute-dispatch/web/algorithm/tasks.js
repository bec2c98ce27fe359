import { askFirst } from '../confirm.ts';
import { ask, get } from './api.js';
import { byId, isTurn, nextTurn, now, setDirty } from './bench.js';
import { leaveFile, openFile, showTree } from './files.js';
import { beginRuns, forgetRuns } from './runs.js';

export async function showTasks(chosen) {
  const { tasks } = await get('/tasks');
  byId('task').replaceChildren(
    ...(tasks.length === 0 ? [new Option('none yet', '')] : tasks.map((task) => new Option(`${task.name} (${task.language})`, task.id))),
  );
  const id = chosen ?? tasks[0]?.id;
  byId('bench').hidden = byId('task-remove').hidden = id === undefined;
  byId('task-none').hidden = id !== undefined;
  if (id === undefined) return;
  byId('task').value = id;
  await showTask(id);
}

/** Shows a task: its files, and its latest run. What the one before still answers is dropped. */
async function showTask(id) {
  const turn = nextTurn();
  forgetRuns();
  const task = await get(`/tasks/${id}`);
  if (!isTurn(turn)) return;
  now.task = task;
  const files = await showTree();
  const first = files?.find(({ path }) => path.startsWith('run.')) ?? files?.[0];
  if (first) await openFile(first.path);
  if (isTurn(turn)) await beginRuns();
}

/** Another task was chosen: the one before is left only when its edits are safe. */
export async function changeTask(id) {
  if (await leaveFile()) return showTask(id);
  byId('task').value = now.task.id;
}

export async function newTask({ name, language }) {
  if (!(await leaveFile())) return undefined;
  const { result } = await ask('POST', '/tasks', { name, language });
  await showTasks(result.id);
  now.editor.focus();
  return `Made ${result.name}.`;
}

export async function removeTask() {
  if (!(await askFirst(`Remove ${now.task.name} with its files? Its runs stay.`, 'Remove'))) return undefined;
  await ask('DELETE', `/tasks/${now.task.id}`);
  nextTurn();
  forgetRuns();
  now.file = undefined;
  setDirty(false);
  await showTasks();
  return 'Removed.';
}
