import { python } from '@codemirror/lang-python';
import { StreamLanguage } from '@codemirror/language';
import { scala } from '@codemirror/legacy-modes/mode/clike';
import { r } from '@codemirror/legacy-modes/mode/r';
import { shell } from '@codemirror/legacy-modes/mode/shell';
import { Compartment, EditorState } from '@codemirror/state';
import { oneDark } from '@codemirror/theme-one-dark';
import { EditorView, keymap } from '@codemirror/view';
import { basicSetup } from 'codemirror';

const languages = {
  py: () => python(),
  R: () => StreamLanguage.define(r),
  r: () => StreamLanguage.define(r),
  scala: () => StreamLanguage.define(scala),
  sh: () => StreamLanguage.define(shell),
};

/**
 * The editor, in a shadow root: there its styles are sheets that scripts construct, which a strict content security policy allows; in
 * the document they would be inline.
 */
export function createEditor(place, { onChange, onSave, onRun }) {
  const root = place.attachShadow({ mode: 'open' });
  const theme = new Compartment();
  const wrapping = new Compartment();
  let wraps = true;
  const wrapped = () => (wraps ? EditorView.lineWrapping : []);
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const themed = () => (dark.matches ? oneDark : []);
  let quiet = false;
  const bound = (key, work) => ({
    key,
    run: () => {
      work();
      return true;
    },
  });
  const extensions = (path) => [
    keymap.of([bound('Mod-s', onSave), bound('Mod-Enter', onRun)]),
    basicSetup,
    EditorView.contentAttributes.of({ 'aria-label': `content of ${path}` }),
    EditorView.theme({
      '&': { height: '26rem', fontSize: '0.875rem' },
      '.cm-scroller': { fontFamily: 'ui-monospace, monospace' },
      '&.cm-focused': { outline: 'none' },
    }),
    theme.of(themed()),
    wrapping.of(wrapped()),
    languages[path.slice(path.lastIndexOf('.') + 1)]?.() ?? [],
    EditorView.updateListener.of((update) => {
      if (update.docChanged && !quiet) onChange();
    }),
  ];
  const view = new EditorView({ parent: root, root, state: EditorState.create({ doc: '', extensions: extensions('') }) });
  dark.addEventListener('change', () => view.dispatch({ effects: theme.reconfigure(themed()) }));
  return {
    show(path, text) {
      quiet = true;
      view.setState(EditorState.create({ doc: text, extensions: extensions(path) }));
      quiet = false;
    },
    get text() {
      return view.state.doc.toString();
    },
    wrap(on) {
      wraps = on;
      view.dispatch({ effects: wrapping.reconfigure(wrapped()) });
    },
    focus: () => view.focus(),
  };
}
