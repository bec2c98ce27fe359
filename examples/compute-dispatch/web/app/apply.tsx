import { useRef, useState } from 'preact/hooks';
import type { BatchView } from '../../src/batches/views.ts';
import { ask } from './api.ts';
import { Says } from './parts.tsx';

const nextOrder = (): string => `order-${new Date().toISOString().slice(11, 23).replaceAll(/[:.]/g, '')}`;

export function Apply() {
  const [answer, setAnswer] = useState({ text: '', ok: true });
  const [order, setOrder] = useState(nextOrder);
  const form = useRef<HTMLFormElement>(null);
  const submit = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    const data = new FormData(form.current as HTMLFormElement);
    const { body, problem } = await ask<BatchView>('POST', 'v1/batches', {
      businessOrderNo: data.get('businessOrderNo'),
      packageId: data.get('packageId'),
      count: Number(data.get('count')),
      minimum: Number(data.get('minimum')),
      policy: data.get('policy'),
      applyDurationMinutes: Number(data.get('applyDurationMinutes') || 0),
      notifyUrl: data.get('notifyUrl') || null,
      notifySignKey: data.get('notifySignKey') || null,
    });
    setAnswer({ text: body ? `Accepted as batch ${body.id}.` : problem, ok: body !== undefined });
    if (body) setOrder(nextOrder());
  };
  return (
    <section aria-labelledby="apply-title">
      <h2 id="apply-title">Apply for a batch</h2>
      <form id="apply" ref={form} onSubmit={(event) => void submit(event)}>
        <label>
          Order number
          <input name="businessOrderNo" required maxLength={100} value={order} onInput={(event) => setOrder(event.currentTarget.value)} />
        </label>
        <label>
          Package
          <select name="packageId">
            <option value="standard">Standard</option>
            <option value="graphics">Graphics</option>
          </select>
        </label>
        <label>
          Count <input name="count" type="number" min="1" max="1000" defaultValue="12" required />
        </label>
        <label>
          Minimum <input name="minimum" type="number" min="1" max="1000" defaultValue="4" required />
        </label>
        <label>
          Policy
          <select name="policy">
            <option value="min_then_fill">Minimum, then fill</option>
            <option value="all_or_nothing">All or nothing</option>
            <option value="best_effort">Best effort</option>
          </select>
        </label>
        <label>
          Apply again for (minutes) <input name="applyDurationMinutes" type="number" min="0" step="0.5" defaultValue="1" />
        </label>
        <details class="more">
          <summary>Callbacks of this order elsewhere</summary>
          <label>
            Callback address (blank: the registered one) <input name="notifyUrl" type="url" maxLength={2000} />
          </label>
          <label>
            Its signing key (whsec_…) <input name="notifySignKey" maxLength={300} autocomplete="off" />
          </label>
        </details>
        <button type="submit">Apply</button>
      </form>
      <Says id="answer" said={answer} />
    </section>
  );
}
