import { useState } from 'preact/hooks';
import type { ScanView } from '../../src/invoices.ts';
import { ask } from './api.ts';
import { snapshot } from './state.ts';
import { clock } from './words.ts';

function Figures({ names }: { readonly names: Readonly<Record<string, string>> }) {
  const figures = snapshot.value?.figures ?? {};
  return (
    <dl class="figures">
      {Object.entries(names).map(([name, label]) => (
        <div key={name}>
          <dt>{label}</dt>
          <dd id={`messages-${name}`}>{figures[name]?.toLocaleString('en') ?? '–'}</dd>
        </div>
      ))}
    </dl>
  );
}

export function Messages() {
  if (!snapshot.value?.figures) return null;
  return (
    <section aria-labelledby="messages-title">
      <h2 id="messages-title">Messages</h2>
      <Figures
        names={{
          unsent: 'waiting for the broker',
          held: 'keys held',
          dead: 'dead letters',
          powerEvents: 'power events, each once',
          assetLeases: 'running, as the asset service knows',
          callbacksPending: 'callbacks under way',
          callbacksGivenUp: 'callbacks given up',
        }}
      />
    </section>
  );
}

export function Invoices() {
  const [answer, setAnswer] = useState('');
  const scan = snapshot.value?.scan;
  if (!scan) return null;
  const look = async (event: SubmitEvent): Promise<void> => {
    event.preventDefault();
    const databases = new FormData(event.currentTarget as HTMLFormElement).get('databases');
    setAnswer((await ask('POST', 'v1/invoice-scan', { databases })).problem);
  };
  return (
    <section aria-labelledby="invoices-title">
      <h2 id="invoices-title">Invoices</h2>
      <Figures
        names={{ invoicesDrawn: 'drawn up, in 2 × 4 tables', invoicesUnsent: 'not sent', invoicesBooked: 'booked by the billing system' }}
      />
      <p>Each is sent when it has committed. What a crash kept from it is looked for half a minute later, every two minutes or now:</p>
      <form id="scan" class="row" onSubmit={(event) => void look(event)}>
        <label>
          Databases <input name="databases" defaultValue="1,2" maxLength={20} required />
        </label>
        <button type="submit">Look for unsent ones</button>
      </form>
      <p id="scan-answer" role="status" class="error">
        {answer}
      </p>
      <p id="scan-pass">{passSays(scan)}</p>
      <ul id="units" aria-label="tables of the scan">
        {scan.units.map(({ unit, state, scanned, handled, remaining, error }) => {
          const whole = Math.max(1, scanned + (remaining ?? 0));
          return (
            <li key={unit} data-state={state}>
              <strong>{unit}</strong>
              <progress max={whole} value={state === 'done' ? whole : scanned} aria-label={`${unit}: ${state}`} />
              {error ?? `${scanned.toLocaleString('en')} scanned, ${handled} sent again`}
            </li>
          );
        })}
      </ul>
    </section>
  );
}

function passSays({ pass, startedAt, endedAt, units }: ScanView): string {
  if (pass === '0') return 'No scan yet.';
  const at = (time: string | null): string => (time ? clock(time) : '');
  const sum = (name: 'scanned' | 'matched' | 'handled'): string =>
    units.reduce((total, unit) => total + unit[name], 0).toLocaleString('en');
  return `Pass ${pass}, begun ${at(startedAt)}, ${endedAt ? `ended ${at(endedAt)}` : 'under way'}: ${sum('scanned')} scanned, ${sum('matched')} not sent, ${sum('handled')} sent again.`;
}
