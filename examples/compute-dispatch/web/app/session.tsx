import { useState } from 'preact/hooks';
import { ask } from './api.ts';
import { session, snapshot, touch } from './state.ts';

/** Begins as whoever the address names (`#key=hf_…`), or whoever was here before. */
export async function begin(): Promise<void> {
  const key = new URLSearchParams(location.hash.slice(1)).get('key');
  // Not kept in the history of the browser.
  if (key) history.replaceState(null, '', location.pathname);
  if (key && (await signIn(key, 'demo')) === '') return;
  const { ok, body } = await ask<{ id: string }>('GET', 'v1/tenant');
  if (!ok || !body) session.value = null;
  else session.value = { admin: (await ask('GET', 'v1/invoice-scan')).ok, tenant: body.id };
  if (session.value) follow();
}

/** Returns what was wrong, or nothing. */
async function signIn(key: string, tenant: string): Promise<string> {
  const { body, problem } = await ask<{ admin: boolean; tenant: string }>('POST', 'v1/session', { key, ...(tenant ? { tenant } : {}) });
  if (!body) return problem;
  session.value = body;
  follow();
  return '';
}

function follow(): void {
  document.dispatchEvent(new Event('signed-in'));
  const live = new EventSource('v1/live');
  live.onopen = () => {
    touch.value = 'live';
  };
  live.onerror = () => {
    touch.value = 'out of touch, trying again …';
  };
  live.onmessage = ({ data }) => {
    snapshot.value = JSON.parse(data);
  };
}

export function SignIn() {
  const [problem, setProblem] = useState('');
  if (session.value !== null) return null;
  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    const data = new FormData(event.currentTarget as HTMLFormElement);
    setProblem(await signIn(String(data.get('key')).trim(), String(data.get('tenant')).trim()));
  };
  return (
    <section aria-labelledby="sign-in-title" id="welcome">
      <h2 id="sign-in-title">Sign in</h2>
      <p>
        With an API key. <code>npm start</code> prints an address with that of the operators.
      </p>
      <form id="sign-in" onSubmit={(event) => void submit(event)}>
        <label>
          API key <input name="key" type="password" autocomplete="off" required />
        </label>
        <label>
          Tenant, with the operators' key <input name="tenant" value="demo" />
        </label>
        <button type="submit">Sign in</button>
      </form>
      <p role="status" class="error">
        {problem}
      </p>
    </section>
  );
}
