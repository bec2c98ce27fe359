import type { Telemetry } from '../../observe/telemetry.ts';
import type { Settlement } from '../row/settle-rows.ts';

/** Counts settled rows in the metrics, by kind and outcome; a row that was not accepted has the outcome `lost`. */
export function countOutcomes(telemetry: Telemetry, batch: readonly Settlement[], accepted: ReadonlySet<string>): void {
  const counts = new Map<string, number>();
  for (const { row, verdict } of batch) {
    const key = `${accepted.has(row.id) ? verdict.outcome : 'lost'} ${row.kind}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  for (const [key, n] of counts) {
    const space = key.indexOf(' ');
    telemetry.settled.add(n, { outcome: key.slice(0, space), kind: key.slice(space + 1) });
  }
}
