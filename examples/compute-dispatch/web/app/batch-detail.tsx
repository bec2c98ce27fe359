import { useState } from 'preact/hooks';
import type { BatchView, SlotView } from '../../src/batches/views.ts';
import type { TimelineEntry } from '../../src/timeline.ts';
import { askFirst } from '../confirm.ts';
import { useAnswer } from './answer.ts';
import { ask } from './api.ts';
import { Id, Pill, type Said, Says } from './parts.tsx';
import { addressOf, go, openSlot } from './route.ts';
import { SlotDetail } from './slot-detail.tsx';
import { snapshot } from './state.ts';
import { Timeline } from './timeline.tsx';
import { shortId } from './words.ts';

/** An open batch: its slots, what can be done with it, and what happened. */
export function BatchDetail({ batch }: { readonly batch: BatchView }) {
  const [said, setSaid] = useState<Said>({ text: '', ok: true });
  // Looked at again with every change that the page hears of.
  const version = snapshot.value;
  const slots = useAnswer<{ slots: SlotView[] }>(`v1/batches/${batch.id}/slots`, version)?.slots;
  const timeline = useAnswer<{ timeline: TimelineEntry[] }>(
    openSlot.value === undefined ? `v1/batches/${batch.id}/timeline` : undefined,
    version,
  )?.timeline;
  const act = async (question: string, goOn: string, path: string, text: string, body?: unknown): Promise<void> => {
    if (!(await askFirst(question, goOn))) return;
    const { ok, problem } = await ask('POST', path, body);
    setSaid({ text: ok ? text : problem, ok });
  };
  const switchOff = (slot: SlotView): void =>
    void act(
      `Switch off ${slot.machineId}? Its slot ends, and the machine goes to others.`,
      'Switch off',
      `v1/slots/${slot.applyId}/power`,
      `Slot ${shortId(slot.applyId)} is being switched off.`,
      { desired: 'OFF' },
    );
  return (
    <div id="slots-section">
      <p class="caption">
        Batch <Id id={batch.id} of={`batch ${batch.businessOrderNo}`} />
      </p>
      <table class="cards">
        <thead>
          <tr>
            <th scope="col">Slot</th>
            <th scope="col">State</th>
            <th scope="col">Machine</th>
            <th scope="col">Power</th>
            <th scope="col">Switch</th>
          </tr>
        </thead>
        <tbody id="slots">
          {(slots ?? []).map((slot) => (
            <SlotRow key={slot.applyId} slot={slot} open={slot.applyId === openSlot.value} switchOff={switchOff} />
          ))}
        </tbody>
      </table>
      <div class="tools">
        <button
          type="button"
          class="quiet"
          id="cancel"
          disabled={batch.result !== null}
          onClick={() =>
            void act(
              `Cancel ${batch.businessOrderNo}? Its machines are given back, and nothing more is applied for.`,
              'Cancel the order',
              `v1/batches/${batch.id}/cancel`,
              'Cancelled.',
            )
          }
        >
          Cancel order
        </button>
        <button
          type="button"
          class="quiet"
          id="release"
          disabled={batch.result === null || batch.state === 'ENDED'}
          onClick={() =>
            void act(
              `Give back all machines of ${batch.businessOrderNo}? They are switched off, and their slots end.`,
              'Give back',
              `v1/batches/${batch.id}/release`,
              'All of it is given back.',
            )
          }
        >
          Give back
        </button>
      </div>
      <Says said={said} />
      {openSlot.value === undefined ? <Timeline of={batch.businessOrderNo} entries={timeline} /> : null}
    </div>
  );
}

function SlotRow({
  slot,
  open,
  switchOff,
}: {
  readonly slot: SlotView;
  readonly open: boolean;
  readonly switchOff: (slot: SlotView) => void;
}) {
  const name = shortId(slot.applyId);
  return (
    <>
      <tr data-state={slot.state} aria-current={open}>
        <td data-label="Slot">
          <button
            type="button"
            class="opens"
            aria-expanded={open}
            aria-label={`slot ${name}`}
            onClick={() => go(open ? addressOf('batches', slot.batchId) : addressOf('batches', slot.batchId, slot.applyId))}
          >
            {name}
          </button>
        </td>
        <td data-label="State">
          <Pill state={slot.state} />
          {slot.flag ? <strong class="error"> {slot.flag.toLowerCase().replaceAll('_', ' ')}</strong> : null}
        </td>
        <td data-label="Machine">{slot.machineId ?? '–'}</td>
        <td data-label="Power">{slot.power === null ? '–' : slot.power === 'ON' ? 'On' : 'Off'}</td>
        <td data-label="Switch">
          {slot.state === 'RUNNING' ? (
            <button type="button" class="quiet" aria-label={`Switch off slot ${name}`} onClick={() => switchOff(slot)}>
              Switch off
            </button>
          ) : (
            '–'
          )}
        </td>
      </tr>
      {open ? (
        <tr class="inside">
          <td colSpan={5}>
            <SlotDetail slot={slot} />
          </td>
        </tr>
      ) : null}
    </>
  );
}
