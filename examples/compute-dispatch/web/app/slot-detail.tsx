import type { SlotView } from '../../src/batches/views.ts';
import type { CallbackView } from '../../src/callbacks.ts';
import type { TimelineEntry } from '../../src/timeline.ts';
import { useAnswer } from './answer.ts';
import { CallbackList } from './callback-list.tsx';
import { Id } from './parts.tsx';
import { snapshot } from './state.ts';
import { Timeline } from './timeline.tsx';
import { shortId } from './words.ts';

/** An open slot: its timeline, and what its customer was told. */
export function SlotDetail({ slot: { applyId } }: { readonly slot: SlotView }) {
  const version = snapshot.value;
  const timeline = useAnswer<{ timeline: TimelineEntry[] }>(`v1/slots/${applyId}/timeline`, version)?.timeline;
  const callbacks = useAnswer<{ callbacks: CallbackView[] }>(`v1/slots/${applyId}/callbacks`, version)?.callbacks;
  return (
    <>
      <p class="caption">
        Slot <Id id={applyId} of={`slot ${shortId(applyId)}`} />
      </p>
      <Timeline of={`slot ${shortId(applyId)}`} entries={timeline} />
      <div id="callbacks-section">
        <h3>Callbacks of slot {shortId(applyId)}</h3>
        <CallbackList callbacks={callbacks}>
          Nothing was told yet. <code>npm start -- receiver</code> hears what the tenant demo is told.
        </CallbackList>
      </div>
    </>
  );
}
