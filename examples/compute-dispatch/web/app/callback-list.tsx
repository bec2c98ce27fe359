import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import type { CallbackView } from '../../src/callbacks.ts';
import { ask } from './api.ts';
import { Pill, type Said, Says } from './parts.tsx';
import { clock, dateTime, shortId, wordOf } from './words.ts';

type Attempt = CallbackView['attempts'][number];

/** Callbacks with their attempts, folded. `children` is said when there are none. */
export function CallbackList({
  callbacks,
  children,
}: {
  readonly callbacks: readonly (CallbackView & { readonly applyId?: string })[] | undefined;
  readonly children: ComponentChildren;
}) {
  const [said, setSaid] = useState<Said>({ text: '', ok: true });
  const resend = async ({ id, says }: CallbackView): Promise<void> => {
    const { ok, problem } = await ask('POST', `v1/callbacks/${id}/resend`);
    setSaid({ text: ok ? `"${wordOf(says).text}" is sent again.` : problem, ok });
  };
  return (
    <>
      {callbacks?.length === 0 ? (
        <p id="callbacks-none" class="empty">
          {children}
        </p>
      ) : null}
      <ol id="callbacks">
        {(callbacks ?? []).map((callback) => (
          <li key={callback.id}>
            <div class="head">
              <strong>{wordOf(callback.says).text}</strong>
              {callback.applyId ? <code title={callback.applyId}>slot {shortId(callback.applyId)}</code> : null}
              <Pill state={callback.state} />
              {callback.nextAt ? <small>next at {dateTime(callback.nextAt)}</small> : null}
              <button
                type="button"
                class="quiet"
                aria-label={`Send again: ${wordOf(callback.says).text}`}
                onClick={() => void resend(callback)}
              >
                Send again
              </button>
            </div>
            <Attempts attempts={callback.attempts} />
          </li>
        ))}
      </ol>
      <Says id="resent" said={said} />
    </>
  );
}

function Attempts({ attempts }: { readonly attempts: readonly Attempt[] }) {
  const last = attempts.at(-1);
  if (!last) return <small>Not tried yet.</small>;
  return (
    <details>
      <summary>
        {attempts.length === 1 ? '1 attempt' : `${attempts.length} attempts`}, the last: {saysOf(last)}
      </summary>
      <ul>
        {attempts.map((attempt) => (
          <li key={attempt.number} data-outcome={attempt.outcome}>
            {attempt.number}. {clock(attempt.at)} {saysOf(attempt)}
          </li>
        ))}
      </ul>
    </details>
  );
}

function saysOf({ outcome, httpStatus, errorCode, durationMs, trigger }: Attempt): string {
  const answer = httpStatus === null ? (errorCode ?? '') : `HTTP ${httpStatus}`;
  return [outcome, answer, durationMs === null ? '' : `${durationMs} ms`, trigger === 'auto' ? '' : trigger].filter(Boolean).join(', ');
}
