import type { ComponentChildren } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import type { BatchView, SlotView } from '../../src/batches/views.ts';
import type { CallbackView } from '../../src/callbacks.ts';
import type { TimelineEntry } from '../../src/timeline.ts';
import { ask } from './api.ts';
import { chosenBatch, chosenSlot, session, snapshot } from './state.ts';

const clock = (time: string): string => new Date(time).toLocaleTimeString();

export function Batches() {
  const batches = snapshot.value?.batches ?? [];
  const quota = snapshot.value?.tenant;
  return (
    <section aria-labelledby="batches-title" class="wide">
      <h2 id="batches-title">
        Batches of {session.value?.tenant}{' '}
        {quota ? <small>{`${quota.usedSlots.toLocaleString('en')} of ${quota.maxSlots.toLocaleString('en')} slots used`}</small> : null}
      </h2>
      {batches.length === 0 ? (
        <p id="none">No batch yet. Apply for one above.</p>
      ) : (
        <Scroll labelledby="batches-title">
          <table>
            <thead>
              <tr>
                <th scope="col">Order</th>
                <th scope="col">Package</th>
                <th scope="col">Granted</th>
                <th scope="col">State</th>
                <th scope="col">Deadline</th>
              </tr>
            </thead>
            <tbody id="batches">
              {batches.map((batch) => (
                <BatchRow key={batch.id} batch={batch} />
              ))}
            </tbody>
          </table>
        </Scroll>
      )}
    </section>
  );
}

/** A table that is wider than a phone: it scrolls, so the keyboard must reach it. */
function Scroll({ labelledby, children }: { readonly labelledby: string; readonly children: ComponentChildren }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls takes the focus, or the keyboard can't scroll it
    <section class="scroll" tabIndex={0} aria-labelledby={labelledby}>
      {children}
    </section>
  );
}

function BatchRow({ batch }: { readonly batch: BatchView }) {
  const choose = (): void => {
    chosenBatch.value = batch;
    chosenSlot.value = undefined;
  };
  const state = batch.state === 'ENDED' ? `ENDED, ${batch.result}` : batch.state;
  return (
    <tr data-order={batch.businessOrderNo}>
      <td>
        <button type="button" class="small" aria-label={`slots of ${batch.businessOrderNo}`} onClick={choose}>
          {batch.businessOrderNo}
        </button>
      </td>
      <td>{batch.packageId}</td>
      <td>
        <progress max={batch.count} value={batch.granted} aria-label={`${batch.granted} of ${batch.count} granted`} />
        {batch.granted} / {batch.count}
      </td>
      <td>{state}</td>
      <td>{batch.deadline ? clock(batch.deadline) : 'first pass'}</td>
    </tr>
  );
}

/** The batch that was chosen: what can be done with it, its slots, and what happened. */
export function BatchDetail() {
  const [slots, setSlots] = useState<readonly SlotView[]>([]);
  const [timeline, setTimeline] = useState<readonly TimelineEntry[]>([]);
  const [answer, setAnswer] = useState({ text: '', ok: true });
  const batch = snapshot.value?.batches.find(({ id }) => id === chosenBatch.value?.id) ?? chosenBatch.value;
  const id = batch?.id;
  // Looked at again with every change that the page hears of.
  const version = snapshot.value;
  useEffect(() => {
    if (!id || !version) return;
    void ask<{ slots: SlotView[] }>('GET', `v1/batches/${id}/slots`).then(({ body }) => body && setSlots(body.slots));
    if (!chosenSlot.value)
      void ask<{ timeline: TimelineEntry[] }>('GET', `v1/batches/${id}/timeline`).then(({ body }) => body && setTimeline(body.timeline));
  }, [id, version]);
  if (!batch) return null;
  const act = async (path: string, text: string): Promise<void> => {
    const { ok, problem } = await ask('POST', path);
    setAnswer({ text: ok ? text : problem, ok });
  };
  return (
    <section aria-labelledby="slots-title" class="wide" id="slots-section">
      <h2 id="slots-title">Slots of {batch.businessOrderNo}</h2>
      <div class="tools">
        <button
          type="button"
          class="small"
          id="cancel"
          disabled={batch.result !== null}
          onClick={() => void act(`v1/batches/${batch.id}/cancel`, 'Cancelled.')}
        >
          Cancel
        </button>
        <button
          type="button"
          class="small"
          id="release"
          disabled={batch.result === null || batch.state === 'ENDED'}
          onClick={() => void act(`v1/batches/${batch.id}/release`, 'All of it is given back.')}
        >
          Give back
        </button>
      </div>
      <p role="status" class={answer.ok ? '' : 'error'}>
        {answer.text}
      </p>
      <Scroll labelledby="slots-title">
        <table>
          <thead>
            <tr>
              <th scope="col">Slot</th>
              <th scope="col">Machine</th>
              <th scope="col">State</th>
              <th scope="col">Power</th>
              <th scope="col">Look</th>
            </tr>
          </thead>
          <tbody id="slots">
            {slots.map((slot) => (
              <tr key={slot.applyId} data-state={slot.state} aria-current={chosenSlot.value?.applyId === slot.applyId}>
                <td>{slot.applyId}</td>
                <td>{slot.machineId ?? '–'}</td>
                <td>
                  {slot.state}
                  {slot.flag ? <strong class="error"> {slot.flag}</strong> : null}
                </td>
                <td>{slot.power ?? '–'}</td>
                <td>
                  <button
                    type="button"
                    class="small"
                    aria-label={`log of slot ${slot.applyId}`}
                    onClick={() => {
                      chosenSlot.value = slot;
                    }}
                  >
                    log
                  </button>
                  {slot.state === 'RUNNING' ? (
                    <button
                      type="button"
                      class="small"
                      aria-label={`switch off slot ${slot.applyId}`}
                      onClick={() =>
                        void ask('POST', `v1/slots/${slot.applyId}/power`, { desired: 'OFF' }).then(({ ok, problem }) =>
                          setAnswer({ text: ok ? `Slot ${slot.applyId} is being switched off.` : problem, ok }),
                        )
                      }
                    >
                      off
                    </button>
                  ) : null}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </Scroll>
      {chosenSlot.value ? <SlotDetail slot={chosenSlot.value} /> : <Timeline of={batch.businessOrderNo} entries={timeline} />}
    </section>
  );
}

function SlotDetail({ slot }: { readonly slot: SlotView }) {
  const [timeline, setTimeline] = useState<readonly TimelineEntry[]>([]);
  const [callbacks, setCallbacks] = useState<readonly CallbackView[]>([]);
  const [resent, setResent] = useState('');
  const version = snapshot.value;
  useEffect(() => {
    if (!version) return;
    void ask<{ timeline: TimelineEntry[] }>('GET', `v1/slots/${slot.applyId}/timeline`).then(
      ({ body }) => body && setTimeline(body.timeline),
    );
    void ask<{ callbacks: CallbackView[] }>('GET', `v1/slots/${slot.applyId}/callbacks`).then(
      ({ body }) => body && setCallbacks(body.callbacks),
    );
  }, [slot.applyId, version]);
  const resend = async ({ id, says }: CallbackView): Promise<void> => {
    const { ok, problem } = await ask('POST', `v1/callbacks/${id}/resend`);
    setResent(ok ? `${says} is sent again.` : problem);
  };
  return (
    <>
      <Timeline of={`slot ${slot.applyId}`} entries={timeline} />
      <div id="callbacks-section">
        <h3>Callbacks of slot {slot.applyId}</h3>
        {callbacks.length === 0 ? (
          <p id="callbacks-none">
            Nothing was told yet. <code>npm start -- receiver</code> hears what the tenant demo is told.
          </p>
        ) : null}
        <ol id="callbacks">
          {callbacks.map((callback) => (
            <li key={callback.id}>
              <p class="head">
                <strong>{callback.says}</strong> {callback.state.toLowerCase()}
                {callback.nextAt ? `, next at ${clock(callback.nextAt)}` : ''}{' '}
                <button type="button" class="small" aria-label={`send again: ${callback.says}`} onClick={() => void resend(callback)}>
                  send again
                </button>
              </p>
              <ul>
                {callback.attempts.map((attempt) => (
                  <li key={attempt.number} data-outcome={attempt.outcome}>
                    {`${attempt.number}. ${clock(attempt.at)} ${attempt.outcome} ${attempt.httpStatus === null ? (attempt.errorCode ?? '') : `HTTP ${attempt.httpStatus}`}${attempt.durationMs === null ? '' : ` in ${attempt.durationMs} ms`}${attempt.trigger === 'auto' ? '' : `, ${attempt.trigger}`}`}
                  </li>
                ))}
              </ul>
            </li>
          ))}
        </ol>
        <p id="resent" role="status">
          {resent}
        </p>
      </div>
    </>
  );
}

/** Events of one business key, from all parts of the service. */
function Timeline({ of, entries }: { readonly of: string; readonly entries: readonly TimelineEntry[] }) {
  const first = Date.parse(entries[0]?.at ?? '');
  return (
    <div id="timeline-section">
      <h3>Timeline of {of}</h3>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls */}
      <ol id="timeline" tabIndex={0} aria-label={`timeline of ${of}`}>
        {entries.map((entry, i) => (
          <li key={i} data-by={entry.by}>
            <time dateTime={entry.at}>+{((Date.parse(entry.at) - first) / 1_000).toFixed(3)} s</time>
            <span class="by">{entry.by}</span>
            <span>
              <strong>{entry.what}</strong>{' '}
              <small>{[entry.of === 'batch' ? '' : `…${entry.of.slice(-5)}`, entry.detail].filter(Boolean).join(', ')}</small>
            </span>
          </li>
        ))}
      </ol>
    </div>
  );
}
