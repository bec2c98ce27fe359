import { useState } from 'preact/hooks';
import { shortId, wordOf } from './words.ts';

/** A state as a pill, with the swatch that the legend of the room gives it. */
export function Pill({ state, text, swatch }: { readonly state: string; readonly text?: string; readonly swatch?: string }) {
  const word = wordOf(state);
  return (
    <span class="pill" data-state={state}>
      <span class="swatch" data-state={swatch ?? word.swatch} aria-hidden="true" />
      {text ?? word.text}
    </span>
  );
}

/** A short id and a button that copies the whole one. */
export function Id({ id, of }: { readonly id: string; readonly of: string }) {
  const [says, setSays] = useState('Copy');
  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(id);
      setSays('Copied');
    } catch {
      setSays('Not allowed');
    }
    setTimeout(() => setSays('Copy'), 1_500);
  };
  return (
    <span class="id">
      <code title={id}>{shortId(id)}</code>
      <button type="button" class="copy" aria-label={`${says} the id of ${of}`} onClick={() => void copy()}>
        {says}
      </button>
    </span>
  );
}

/** What an action did, or why not. */
export interface Said {
  readonly text: string;
  readonly ok: boolean;
}

export function Says({ said, id }: { readonly said: Said; readonly id?: string }) {
  return (
    <p id={id} role="status" class={said.ok ? 'says' : 'says error'}>
      {said.text}
    </p>
  );
}
