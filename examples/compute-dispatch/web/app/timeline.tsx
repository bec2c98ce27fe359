import type { TimelineEntry } from '../../src/timeline.ts';
import { openSlot } from './route.ts';
import { type Line, lanes, linesOf } from './timeline-words.ts';
import { dateTime, shortId } from './words.ts';

/** The history of one business key as a rail, with a lane for each part of the service. */
export function Timeline({ of, entries }: { readonly of: string; readonly entries: readonly TimelineEntry[] | undefined }) {
  const first = entries?.[0];
  return (
    <div id="timeline-section">
      <h3>
        Timeline of {of} {first ? <small>from {dateTime(first.at)}</small> : null}
      </h3>
      <ul id="lanes" aria-hidden="true">
        {lanes.map((lane) => (
          <li key={lane} data-lane={lane}>
            {lane}
          </li>
        ))}
      </ul>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls */}
      <ol id="timeline" tabIndex={0} aria-label={`timeline of ${of}`}>
        {linesOf(entries ?? []).map((line, i) => (
          <Entry key={i} line={line} fromMs={Date.parse(first?.at ?? '')} />
        ))}
      </ol>
    </div>
  );
}

function Entry({ line: { lane, says, entries }, fromMs }: { readonly line: Line; readonly fromMs: number }) {
  const [first] = entries;
  if (!first) return null;
  return (
    <li data-lane={lane}>
      <span class="rail" aria-hidden="true">
        {lanes.map((one) => (
          <i key={one} data-on={one === lane} />
        ))}
      </span>
      <time dateTime={first.at}>{sinceText(first, fromMs)}</time>
      <span>
        <strong>{says}</strong> <span class="lane">{lane}</span>{' '}
        {entries.length === 1 ? (
          <small>{detailOf(first)}</small>
        ) : (
          <details>
            <summary>
              {entries.length} {lane === 'bill' ? 'lines' : 'attempts'}, the last: {detailOf(entries.at(-1) ?? first)}
            </summary>
            <ul>
              {entries.map((entry, i) => (
                <li key={i}>
                  {sinceText(entry, fromMs)} {detailOf(entry)}
                </li>
              ))}
            </ul>
          </details>
        )}
      </span>
    </li>
  );
}

const sinceText = ({ at }: TimelineEntry, fromMs: number): string => `+${((Date.parse(at) - fromMs) / 1_000).toFixed(3)} s`;

/** Of an open slot, only what it is about is said; of a batch, the slot too. */
const detailOf = ({ of, detail }: TimelineEntry): string =>
  [of === 'batch' || of === openSlot.value ? '' : `slot ${shortId(of)}`, detail].filter(Boolean).join(', ');
