import { Pill } from './parts.tsx';
import { addressOf } from './route.ts';
import { snapshot } from './state.ts';

/** The orders that came last, on the overview. */
export function Latest() {
  const batches = snapshot.value?.batches.slice(0, 6) ?? [];
  return (
    <section aria-labelledby="latest-title">
      <h2 id="latest-title">Latest batches</h2>
      {batches.length === 0 ? (
        <p class="empty">
          No batch yet. <a href={addressOf('batches')}>Apply for one</a>, and watch machines come up.
        </p>
      ) : (
        <ul id="latest">
          {batches.map(({ id, businessOrderNo, granted, count, state }) => (
            <li key={id}>
              <a href={addressOf('batches', id)}>{businessOrderNo}</a>
              <span class="figure">
                {granted} / {count}
              </span>
              <Pill state={state} />
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}
