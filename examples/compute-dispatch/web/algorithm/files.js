import { askFirst } from '../confirm.ts';
import { ask, get } from './api.js';
import { byId, isTurn, now, setDirty, thisTurn } from './bench.js';

/** Shows the files of the task. Returns them, or `undefined` if another task was chosen meanwhile. */
export async function showTree() {
  const turn = thisTurn();
  const { tree } = await get(`/tasks/${now.task.id}/files`);
  if (!isTurn(turn)) return undefined;
  const files = [];
  const list = (nodes) =>
    nodes.map((node) => {
      const item = document.createElement('li');
      const button = Object.assign(document.createElement('button'), {
        type: 'button',
        className: node.main ? 'main' : '',
        textContent: node.isLeaf ? node.name : `${node.name}/`,
      });
      button.dataset.path = node.path;
      button.setAttribute('aria-current', String(node.path === now.file?.path));
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

let opening = 0;

/** Opens a file. Edits of the one that is open are saved first; a click on the file that is open keeps them. */
export async function openFile(path) {
  const [turn, mine] = [thisTurn(), ++opening];
  byId('file-form').path.value = path;
  if (now.dirty && now.file?.path === path) return;
  if (now.dirty) await save();
  const { result, etag } = await ask('GET', `/tasks/${now.task.id}/file?path=${encodeURIComponent(path)}`);
  // A later choice wins, whichever answer comes first; and what was typed while this one was read is kept.
  if (!isTurn(turn) || mine !== opening || now.dirty) return;
  now.file = { path, etag };
  byId('file-name').textContent = path;
  for (const button of byId('tree').querySelectorAll('button')) button.setAttribute('aria-current', String(button.dataset.path === path));
  now.editor.show(path, result);
  setDirty(false);
}

/** Saves the open file of its own task. What is typed meanwhile stays unsaved. */
export async function save() {
  const { file, task, editor } = now;
  if (!file) return;
  const text = editor.text;
  const { etag } = await ask('PUT', `/tasks/${task.id}/file?path=${encodeURIComponent(file.path)}`, text, { 'if-match': file.etag });
  file.etag = etag;
  if (now.file !== file || editor.text !== text) return;
  setDirty(false);
  byId('file-state').textContent = 'saved';
}

/** Saves edits before another task is shown. If that is refused, asks whether they may be lost. Returns `false` to stay. */
export async function leaveFile() {
  if (now.dirty) {
    try {
      await save();
    } catch (error) {
      if (!(await askFirst(`${now.file.path} could not be saved: ${error.message} Leave without its edits?`, 'Lose the edits')))
        return false;
    }
  }
  now.file = undefined;
  setDirty(false);
  return true;
}

const holds = (path, inside) => inside === path || inside?.startsWith(`${path.replace(/\/$/, '')}/`);

/** The buttons of the path: what each does. */
export const fileWork = {
  new: async (path) => {
    await ask('PUT', `/tasks/${now.task.id}/file?path=${encodeURIComponent(path)}`, '', { 'if-none-match': '*' });
    await showTree();
    await openFile(path);
    now.editor.focus();
  },
  rename: async (path) => {
    if (now.dirty) await save();
    await ask('POST', `/tasks/${now.task.id}/rename`, { from: now.file?.path ?? '', to: path });
    await showTree();
    await openFile(path);
  },
  main: async (path) => {
    await ask('PUT', `/tasks/${now.task.id}/main`, { path });
    await showTree();
    await openFile(path);
    return `${path} is what runs.`;
  },
  remove: async (path) => {
    if (!(await askFirst(`Remove ${path}? It can't be had back.`, 'Remove'))) return undefined;
    const { result } = await ask('DELETE', `/tasks/${now.task.id}/file?path=${encodeURIComponent(path)}`);
    // Edits of a file that stays are kept.
    if (holds(path, now.file?.path)) {
      now.file = undefined;
      setDirty(false);
    }
    const files = await showTree();
    if (!now.file && files?.[0]) await openFile(files[0].path);
    return `Removed ${result.files === 1 ? path : `${result.files} files`}.`;
  },
};

/** Loads an archive into the task. Edits are saved first, after a question: the archive may hold the same file. */
export async function loadZip(archive) {
  const open = now.file?.path;
  if (now.dirty) {
    const question = `${open} has edits that are not saved. Save them, then load ${archive.name}? If it holds ${open} too, it replaces them.`;
    if (!(await askFirst(question, 'Save, then load'))) return undefined;
    await save();
  }
  const { result } = await ask('PUT', `/tasks/${now.task.id}/zip`, archive);
  const files = await showTree();
  const shown = files?.find(({ path }) => path === open) ?? files?.[0];
  if (shown) await openFile(shown.path);
  return `${result.files} files came out of ${archive.name}.`;
}
