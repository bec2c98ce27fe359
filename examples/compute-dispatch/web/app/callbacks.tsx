import { useState } from 'preact/hooks';
import type { CallbackEndpoint, CallbackView } from '../../src/callbacks.ts';
import { askFirst } from '../confirm.ts';
import { useAnswer } from './answer.ts';
import { ask } from './api.ts';
import { CallbackList } from './callback-list.tsx';
import { type Said, Says } from './parts.tsx';
import { snapshot } from './state.ts';

const states = [
  { state: 'PENDING', title: 'Waiting', none: 'No callback waits: every customer has heard all there is.' },
  { state: 'EXHAUSTED', title: 'Given up', none: 'None was given up. When one is, send it again here once its address answers.' },
  { state: 'DELIVERED', title: 'Delivered', none: 'None was delivered yet. Apply for a batch; npm start -- receiver hears of it.' },
] as const;

/** What customers are told: the address, and callbacks by their state. */
export function CallbacksPane() {
  const [state, setState] = useState<(typeof states)[number]['state']>('PENDING');
  const chosen = states.find((one) => one.state === state) ?? states[0];
  const answer = useAnswer<{ callbacks: (CallbackView & { applyId: string })[] }>(`v1/callbacks?state=${state}`, snapshot.value);
  return (
    <>
      <section aria-labelledby="callbacks-title">
        <h2 id="callbacks-title">Callbacks</h2>
        <fieldset class="choices" aria-label="state of callbacks">
          {states.map((one) => (
            <button key={one.state} type="button" class="quiet" aria-pressed={one.state === state} onClick={() => setState(one.state)}>
              {one.title}
            </button>
          ))}
        </fieldset>
        <CallbackList callbacks={answer?.callbacks}>{chosen.none}</CallbackList>
      </section>
      <Address />
    </>
  );
}

function Address() {
  const [version, setVersion] = useState(0);
  const [said, setSaid] = useState<Said>({ text: '', ok: true });
  const endpoint = useAnswer<CallbackEndpoint>('v1/callback-endpoint', version);
  const register = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    const url = String(new FormData(event.currentTarget as HTMLFormElement).get('url'));
    if (endpoint && !(await askFirst(`Tell ${url} from now on, and ${endpoint.url} no more?`, 'Change the address'))) return;
    const { ok, problem } = await ask('PUT', 'v1/callback-endpoint', { url });
    setSaid({ text: ok ? 'Callbacks of new changes go there.' : problem, ok });
    setVersion(version + 1);
  };
  return (
    <section aria-labelledby="endpoint-title">
      <h2 id="endpoint-title">Where they go</h2>
      <form id="endpoint" class="row" onSubmit={(event) => void register(event)}>
        <label>
          Address <input name="url" type="url" required maxLength={2000} defaultValue={endpoint?.url} key={endpoint?.url} />
        </label>
        <button type="submit" class="quiet">
          Change
        </button>
      </form>
      {endpoint ? (
        <details>
          <summary>Signing key</summary>
          <code class="key-text">{endpoint.key}</code>
        </details>
      ) : null}
      <Says said={said} />
    </section>
  );
}
