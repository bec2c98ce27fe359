import type { BatchView } from '../../src/batches/views.ts';
import { BatchDetail } from './batch-detail.tsx';
import { Pill } from './parts.tsx';
import { addressOf, go, openBatch } from './route.ts';
import { session, snapshot } from './state.ts';
import { count, dateTime } from './words.ts';

/** The batches of the tenant, newest first; each row opens. */
export function Batches() {
  const batches = snapshot.value?.batches ?? [];
  const quota = snapshot.value?.tenant;
  const missing = openBatch.value !== undefined && snapshot.value && !batches.some(({ id }) => id === openBatch.value);
  return (
    <section aria-labelledby="batches-title">
      <h2 id="batches-title">
        Batches of {session.value?.tenant}{' '}
        {quota ? <small>{`${count(quota.usedSlots)} of ${count(quota.maxSlots)} slots used`}</small> : null}
      </h2>
      {missing ? <p class="error">Batch {openBatch.value} is not among the latest twenty; the API has it.</p> : null}
      {batches.length === 0 ? (
        <p id="none" class="empty">
          No batch yet. Fill in the form below and apply: machines come up within seconds.
        </p>
      ) : (
        <table class="cards">
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
              <BatchRow key={batch.id} batch={batch} open={batch.id === openBatch.value} />
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

function BatchRow({ batch, open }: { readonly batch: BatchView; readonly open: boolean }) {
  return (
    <>
      <tr data-order={batch.businessOrderNo} aria-current={open}>
        <td data-label="Order">
          <button
            type="button"
            class="opens"
            aria-expanded={open}
            onClick={() => go(open ? addressOf('batches') : addressOf('batches', batch.id))}
          >
            {batch.businessOrderNo}
          </button>
        </td>
        <td data-label="Package">{batch.packageId}</td>
        <td data-label="Granted">
          <progress max={batch.count} value={batch.granted} aria-label={`${batch.granted} of ${batch.count} granted`} />
          {batch.granted} / {batch.count}
        </td>
        <td data-label="State">
          <Pill state={batch.state} />
          {batch.state === 'ENDED' && batch.result ? <Pill state={batch.result} /> : null}
        </td>
        <td data-label="Deadline">{batch.deadline ? <time dateTime={batch.deadline}>{dateTime(batch.deadline)}</time> : 'First pass'}</td>
      </tr>
      {open ? (
        <tr class="inside">
          <td colSpan={5}>
            <BatchDetail batch={batch} />
          </td>
        </tr>
      ) : null}
    </>
  );
}
