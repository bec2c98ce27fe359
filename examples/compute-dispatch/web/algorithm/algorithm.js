import { ask, get, url } from './api.js';
import { createEditor } from './editor.js';
import { createLog } from './log.js';

// Algorithm tasks: a small project, edited, run, watched, stopped, downloaded.
const byId = (id) => document.getElementById(id);
const states = ['draft', 'queued', 'running', 'finished', 'failed', 'stopped'];
const now = { task: undefined, file: undefined, dirty: false, run: undefined, source: undefined };
const log = createLog(byId('log'));
// It scrolls, so the keyboard must reach it.
byId('log').tabIndex = 0;
const editor = createEditor(byId('editor'), { onChange: () => setDirty(true), onSave: () => tell(save), onRun: () => tell(run) });

/** Does it, and says what is wrong if it does not work. */
async function tell(work) {
  const answer = byId('algorithm-answer');
  try {
    answer.className = '';
    const said = await work();
    answer.textContent = typeof said === 'string' ? said : '';
  } catch (error) {
    answer.className = 'error';
    answer.textContent = error.message;
  }
}

function setDirty(dirty) {
  now.dirty = dirty;
  byId('file-state').textContent = dirty ? 'not saved' : '';
}

async function begin() {
  const { languages, where, problem } = await get('/about');
  byId('algorithm-where').textContent = problem ?? `A program of yours, run by: ${where}.`;
  byId('algorithm-where').className = problem ? 'error' : '';
  byId('task-language').replaceChildren(...languages.map(({ name, title }) => new Option(title, name)));
  await showTasks();
}

async function showTasks(chosen) {
  const { tasks } = await get('/tasks');
  byId('task').replaceChildren(
    ...(tasks.length === 0 ? [new Option('none yet', '')] : tasks.map((task) => new Option(`${task.name} (${task.language})`, task.id))),
  );
  const id = chosen ?? tasks[0]?.id;
  byId('bench').hidden = byId('task-remove').hidden = id === undefined;
  if (id === undefined) return;
  byId('task').value = id;
  await showTask(id);
}

async function showTask(id) {
  now.task = await get(`/tasks/${id}`);
  const files = await showTree();
  const first = files.find(({ path }) => path === now.file?.path) ?? files.find(({ path }) => path.startsWith('run.')) ?? files[0];
  if (first) await openFile(first.path);
  const runs = await showRuns();
  const [last] = runs;
  if (last) follow(last);
  else {
    leave();
    log.clear();
    byId('run-state').textContent = 'Not run yet.';
  }
}

async function showTree() {
  const { tree } = await get(`/tasks/${now.task.id}/files`);
  const files = [];
  const list = (nodes) =>
    nodes.map((node) => {
      const item = document.createElement('li');
      const button = Object.assign(document.createElement('button'), {
        type: 'button',
        className: `small${node.main ? ' main' : ''}`,
        textContent: node.isLeaf ? node.name : `${node.name}/`,
      });
      button.dataset.path = node.path;
      button.addEventListener('click', () => {
        byId('file-form').path.value = node.path;
        if (node.isLeaf) void tell(() => openFile(node.path));
      });
      item.append(button);
      if (node.isLeaf) files.push(node);
      else {
        const inside = document.createElement('ul');
        inside.append(...list(node.children));
        item.append(inside);
      }
      return item;
    });
  byId('tree').replaceChildren(...list(tree));
  return files;
}

async function openFile(path) {
  if (now.dirty && now.file && now.file.path !== path) await save();
  const { result, etag } = await ask('GET', `/tasks/${now.task.id}/file?path=${encodeURIComponent(path)}`);
  now.file = { path, etag };
  byId('file-name').textContent = path;
  byId('file-form').path.value = path;
  for (const button of byId('tree').querySelectorAll('button')) button.setAttribute('aria-current', String(button.dataset.path === path));
  editor.show(path, result);
  setDirty(false);
}

async function save() {
  if (!now.file) return;
  const { etag } = await ask('PUT', `/tasks/${now.task.id}/file?path=${encodeURIComponent(now.file.path)}`, editor.text, {
    'if-match': now.file.etag,
  });
  now.file.etag = etag;
  setDirty(false);
  byId('file-state').textContent = 'saved';
}

/** What is filled in; the main file runs alone otherwise. */
function runOptions() {
  return Object.fromEntries([...new FormData(byId('run-form'))].filter(([, value]) => value.trim() !== ''));
}

async function run() {
  if (now.dirty) await save();
  try {
    const { result } = await ask('POST', `/tasks/${now.task.id}/runs`, runOptions());
    follow(result);
  } catch (error) {
    if (error.code !== 'live-run') throw error;
    follow(await get(`/runs/${error.runId}`));
    throw error;
  }
  await showRuns();
}

function leave() {
  now.source?.close();
  now.source = undefined;
}

/** Shows a run from its beginning, and what comes. A browser that loses the stream goes on behind the last event. */
function follow(followed) {
  leave();
  log.clear();
  now.run = followed;
  showState(followed);
  const source = new EventSource(url(`/runs/${followed.id}/events`));
  now.source = source;
  source.addEventListener('log', ({ data }) => log.append(JSON.parse(data)));
  source.addEventListener('state', ({ data }) => showState({ ...now.run, ...JSON.parse(data) }));
  source.addEventListener('end', () => {
    leave();
    void tell(showRuns);
  });
}

function showState(state) {
  now.run = { ...now.run, ...state };
  const ended = state.state >= 3;
  byId('stop').disabled = ended;
  byId('run').disabled = !ended && state.state !== 0;
  const element = byId('run-state');
  element.dataset.runState = state.state;
  element.textContent = `Run ${now.run.id}: ${ended ? (state.message ?? states[state.state]) : state.phase}`;
}

async function showRuns() {
  const { runs } = await get(`/tasks/${now.task.id}/runs?limit=10`);
  byId('runs').replaceChildren(
    ...runs.map((one) => {
      const row = document.createElement('tr');
      const cell = (...content) => {
        const td = document.createElement('td');
        td.append(...content);
        row.append(td);
        return td;
      };
      const show = Object.assign(document.createElement('button'), { type: 'button', className: 'small', textContent: one.id });
      show.setAttribute('aria-label', `log of run ${one.id}`);
      show.addEventListener('click', () => follow(one));
      cell(show);
      cell(states[one.state]).dataset.runState = one.state;
      cell(one.startedAt && one.endedAt ? `${((one.endedAt - one.startedAt) / 1000).toFixed(2)} s` : '–');
      cell(one.message ?? '');
      cell(one.argv ? one.argv.map((part) => (/^[\w@%+=:,./-]+$/.test(part) ? part : `'${part}'`)).join(' ') : (one.main ?? ''));
      cell(one.remarks ?? '');
      const download = Object.assign(document.createElement('a'), { href: url(`/runs/${one.id}/download`), textContent: 'download' });
      download.setAttribute('aria-label', `results, log and code of run ${one.id}`);
      cell(one.state >= 3 ? download : '');
      return row;
    }),
  );
  return runs;
}

byId('task').addEventListener('change', () => {
  now.file = undefined;
  void tell(() => showTask(byId('task').value));
});
byId('task-new').addEventListener('submit', (event) => {
  event.preventDefault();
  const { name, language } = Object.fromEntries(new FormData(event.target));
  void tell(async () => {
    const { result } = await ask('POST', '/tasks', { name, language });
    now.file = undefined;
    await showTasks(result.id);
    editor.focus();
    return `Made ${result.name}.`;
  });
});
byId('task-remove').addEventListener('click', () => {
  if (!confirm(`Remove ${now.task.name} with its files? Its runs stay.`)) return;
  void tell(async () => {
    leave();
    await ask('DELETE', `/tasks/${now.task.id}`);
    now.file = undefined;
    setDirty(false);
    await showTasks();
    return 'Removed.';
  });
});
byId('file-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const path = new FormData(event.target).get('path');
  const at = `/tasks/${now.task.id}`;
  const selected = now.file?.path ?? '';
  const work = {
    new: async () => {
      await ask('PUT', `${at}/file?path=${encodeURIComponent(path)}`, '', { 'if-none-match': '*' });
      await showTree();
      await openFile(path);
      editor.focus();
    },
    rename: async () => {
      if (now.dirty) await save();
      await ask('POST', `${at}/rename`, { from: selected, to: path });
      await showTree();
      await openFile(path);
    },
    main: async () => {
      await ask('PUT', `${at}/main`, { path });
      await showTree();
      await openFile(path);
      return `${path} is what runs.`;
    },
    remove: async () => {
      setDirty(false);
      const { result } = await ask('DELETE', `${at}/file?path=${encodeURIComponent(path)}`);
      now.file = undefined;
      const [first] = await showTree();
      if (first) await openFile(first.path);
      return `Removed ${result.files === 1 ? path : `${result.files} files`}.`;
    },
  };
  void tell(work[event.submitter?.value ?? 'new']);
});
byId('zip-in').addEventListener('change', ({ target }) => {
  const [file] = target.files;
  if (!file) return;
  void tell(async () => {
    const { result } = await ask('PUT', `/tasks/${now.task.id}/zip`, file);
    target.value = '';
    await showTask(now.task.id);
    return `${result.files} files came out of ${file.name}.`;
  });
});
byId('zip-out').addEventListener('click', () => location.assign(url(`/tasks/${now.task.id}/zip`)));
byId('file-out').addEventListener('click', () => {
  if (now.file) location.assign(url(`/tasks/${now.task.id}/file?path=${encodeURIComponent(now.file.path)}`));
});
byId('run-form').addEventListener('submit', (event) => {
  event.preventDefault();
  void tell(run);
});
byId('save').addEventListener('click', () => void tell(save));
byId('run').addEventListener('click', () => void tell(run));
// What comes of it is told by the run's events.
byId('stop').addEventListener('click', () => void tell(() => ask('POST', `/runs/${now.run.id}/terminate`)));
addEventListener('beforeunload', (event) => {
  if (now.dirty) event.preventDefault();
});

// Whose tasks they are is known then.
document.addEventListener('signed-in', () => void tell(begin), { once: true });
