import { get, url } from './api.js';
import { byId, now, setDirty, tell } from './bench.js';
import { createEditor } from './editor.js';
import { fileWork, loadZip, openFile, save } from './files.js';
import { run, stop } from './runs.js';
import { changeTask, newTask, removeTask, showTasks } from './tasks.js';

// Algorithm tasks: a small project, edited, run, watched, stopped, downloaded.

/** What is filled in for a run; without any of it the main file runs alone. Hidden fields count for nothing. */
function runOptions() {
  const fields = { args: byId('arguments') };
  if (!byId('input-row').hidden) Object.assign(fields, { stdin: byId('input'), execCommand: byId('command'), remarks: byId('remarks') });
  return Object.fromEntries(Object.entries(fields).flatMap(([name, { value }]) => (value.trim() === '' ? [] : [[name, value]])));
}

const runNow = () => tell(() => (byId('run').disabled ? 'A run of this task goes on. Stop it first.' : run(runOptions())));
now.editor = createEditor(byId('editor'), { onChange: () => setDirty(true), onSave: () => tell(save), onRun: runNow });

async function begin() {
  const about = await get('/about');
  byId('algorithm-where').textContent = about.problem ?? `A program of yours, run by: ${about.where}.`;
  byId('algorithm-where').className = about.problem ? 'error' : '';
  byId('task-language').replaceChildren(...about.languages.map(({ name, title }) => new Option(title, name)));
  await showTasks();
}

byId('task').addEventListener('change', () => void tell(() => changeTask(byId('task').value)));
byId('task-new').addEventListener('submit', (event) => {
  event.preventDefault();
  const wanted = Object.fromEntries(new FormData(event.target));
  void tell(() => newTask(wanted));
});
byId('task-remove').addEventListener('click', () => void tell(removeTask));
byId('tree').addEventListener('click', ({ target }) => {
  const { path } = target.closest('button')?.dataset ?? {};
  if (path === undefined) return;
  byId('file-form').path.value = path;
  if (!target.textContent.endsWith('/')) void tell(() => openFile(path));
});
byId('file-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const path = String(new FormData(event.target).get('path'));
  void tell(() => fileWork[event.submitter?.value ?? 'new'](path));
});
byId('zip-in').addEventListener('change', ({ target }) => {
  const [file] = target.files;
  if (!file) return;
  void tell(() => loadZip(file).finally(() => Object.assign(target, { value: '' })));
});
byId('file-out').addEventListener('click', () => {
  if (now.file) location.assign(url(`/tasks/${now.task.id}/file?path=${encodeURIComponent(now.file.path)}`));
});
byId('zip-out').addEventListener('click', () => location.assign(url(`/tasks/${now.task.id}/zip`)));
byId('save').addEventListener('click', () => void tell(save));
byId('run').addEventListener('click', runNow);
byId('stop').addEventListener('click', () => void tell(stop));
byId('input-open').addEventListener('click', ({ currentTarget }) => {
  byId('input-row').hidden = !byId('input-row').hidden;
  currentTarget.setAttribute('aria-expanded', String(!byId('input-row').hidden));
});
byId('wrap').addEventListener('click', ({ currentTarget }) => {
  const wraps = currentTarget.getAttribute('aria-pressed') !== 'true';
  currentTarget.setAttribute('aria-pressed', String(wraps));
  byId('log').classList.toggle('unwrapped', !wraps);
  now.editor.wrap(wraps);
});
addEventListener('beforeunload', (event) => {
  if (now.dirty) event.preventDefault();
});

// Whose tasks they are is known then.
document.addEventListener('signed-in', () => void tell(begin), { once: true });
