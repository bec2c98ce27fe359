import { useEffect, useState } from 'preact/hooks';
import type { Misbehaviour } from '../../src/room/simulator/misbehaviour.ts';
import { ask } from './api.ts';
import { snapshot } from './state.ts';

const knobs: readonly { readonly name: keyof Misbehaviour; readonly label: string; readonly max: number; readonly unit: '%' | 'ms' }[] = [
  { name: 'losePercent', label: 'Power events lost', max: 100, unit: '%' },
  { name: 'duplicatePercent', label: 'Power events told twice', max: 100, unit: '%' },
  { name: 'delayMs', label: 'Power events late, out of order', max: 10_000, unit: 'ms' },
  { name: 'lostAnswerPercent', label: 'Answers lost after the deed', max: 100, unit: '%' },
  { name: 'refusePercent', label: 'Grants refused', max: 100, unit: '%' },
  { name: 'failOnPercent', label: 'Power-ons that fail', max: 100, unit: '%' },
  { name: 'failOffPercent', label: 'Power-offs that fail', max: 100, unit: '%' },
  { name: 'crashPercentPerMinute', label: 'Machines that crash, per minute', max: 100, unit: '%' },
  { name: 'switchMs', label: 'Switching takes', max: 10_000, unit: 'ms' },
];
const heal: Partial<Misbehaviour> = {
  losePercent: 0,
  duplicatePercent: 0,
  delayMs: 0,
  lostAnswerPercent: 0,
  refusePercent: 0,
  failOnPercent: 0,
  failOffPercent: 0,
  crashPercentPerMinute: 0,
};
const storm: Partial<Misbehaviour> = {
  losePercent: 25,
  duplicatePercent: 40,
  delayMs: 5_000,
  lostAnswerPercent: 20,
  refusePercent: 20,
  failOnPercent: 25,
  failOffPercent: 25,
  crashPercentPerMinute: 60,
};

/** Faults that a visitor can cause. */
export function Knobs() {
  const [says, setSays] = useState({ text: '', ok: true });
  const now = snapshot.value?.misbehaviour;
  if (!now) return null;
  const put = async (change: Partial<Misbehaviour>, text: string): Promise<void> => {
    const { ok, problem } = await ask('PUT', 'v1/misbehaviour', change);
    setSays({ text: ok ? text : problem, ok });
  };
  const post = async (path: string, text: string): Promise<void> => {
    const { ok, problem } = await ask('POST', path);
    setSays({ text: ok ? text : problem, ok });
  };
  return (
    <section aria-labelledby="knobs-title" id="knobs">
      <h2 id="knobs-title">Break it, and watch the figures above</h2>
      <div class="tools">
        <button type="button" class="quiet" id="storm" onClick={() => void put(storm, 'A storm. Watch the invariants.')}>
          Storm
        </button>
        <button
          type="button"
          class="quiet"
          id="heal"
          onClick={() => void put(heal, 'The room behaves. What was lost is found by the next sweep.')}
        >
          Heal
        </button>
        <button
          type="button"
          class="quiet"
          id="crash"
          onClick={() => void post('v1/crash', 'The worker was killed. Its leases run out in 10 s, and another takes over.')}
        >
          Kill the worker
        </button>
        <button type="button" class="quiet" id="reconcile" onClick={() => void post('v1/reconcile', 'Compared with what the room lists.')}>
          Compare with the room
        </button>
      </div>
      <p id="knobs-say" role="status" class={says.ok ? '' : 'error'}>
        {says.text}
      </p>
      <div class="knobs">
        {knobs.map((knob) => (
          <Slider key={knob.name} knob={knob} now={now[knob.name]} put={put} />
        ))}
      </div>
    </section>
  );
}

/** Shows what was chosen here until the room says the same: or it would jump back while it is being moved. */
function Slider({
  knob: { name, label, max, unit },
  now,
  put,
}: {
  readonly knob: (typeof knobs)[number];
  readonly now: number;
  readonly put: (change: Partial<Misbehaviour>, text: string) => Promise<void>;
}) {
  const [chosen, setChosen] = useState<number | undefined>(undefined);
  useEffect(() => {
    if (chosen === undefined) return;
    if (chosen === now) {
      setChosen(undefined);
      return;
    }
    // Sent when it rests for a moment, and again should it not have been heard.
    const timer = setTimeout(() => void put({ [name]: chosen }, `${label}: ${chosen} ${unit}.`), 150);
    return () => clearTimeout(timer);
  }, [chosen, now]);
  return (
    <label>
      <span>
        {label}{' '}
        <output>
          {chosen ?? now} {unit}
        </output>
      </span>
      <input
        type="range"
        name={name}
        min="0"
        max={max}
        step={unit === '%' ? 1 : 100}
        value={chosen ?? now}
        onInput={(event) => setChosen(Number(event.currentTarget.value))}
      />
    </label>
  );
}
