import { until } from '@holdfast/core/testing';
import { context, metrics, type Span, type Tracer, trace } from '@opentelemetry/api';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { bizType } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';
import { any } from './suite-schema.ts';

/** What an SDK would receive. */
const measured = new Map<string, { value: number; attributes: Record<string, unknown> }[]>();
const spans: { name: string; parent: string | undefined }[] = [];

function instrument(name: string) {
  const note = (value: number, attributes: Record<string, unknown> = {}) => {
    measured.set(name, [...(measured.get(name) ?? []), { value, attributes }]);
  };
  return { add: note, record: note };
}

beforeAll(() => {
  metrics.setGlobalMeterProvider({
    getMeter: () => ({ createCounter: instrument, createGauge: instrument }) as never,
  });
  trace.setGlobalTracerProvider({
    getTracer: () =>
      ({
        startSpan: (name: string, _options: unknown, parent = context.active()) => {
          spans.push({ name, parent: trace.getSpanContext(parent)?.traceId });
          return { isRecording: () => true, end: () => undefined, setStatus: () => undefined } as unknown as Span;
        },
      }) as unknown as Tracer,
  });
});
afterAll(() => {
  metrics.disable();
  trace.disable();
});

onEveryDatabase('telemetry', (suite) => {
  it('counts what is claimed and settled, says how late the head is and how much is held', async () => {
    measured.clear();
    spans.length = 0;
    const biz = suite.create({ measured: bizType(any) });
    biz.handle('measured', (_context, run) => (run.attempt === 1 ? undefined : undefined));
    await biz.now().submitMany('measured', [{}, {}, {}]);
    await suite.db.knex('compensate_biz').decrement('claim_rank', 5_000);
    await using worker = biz.worker();
    await worker.start();
    await until(() => measured.get('holdfast.settled'));
    const sum = (name: string) => measured.get(name)?.reduce((total, { value }) => total + value, 0);
    await until(() => sum('holdfast.claimed') === 3);
    await until(() => sum('holdfast.settled') === 3);
    expect(measured.get('holdfast.settled')?.[0]?.attributes).toEqual({ kind: 'measured', outcome: 'done' });
    expect(Math.max(...(measured.get('holdfast.due_lag') ?? []).map(({ value }) => value))).toBeGreaterThanOrEqual(5_000);
    expect(spans.filter(({ name }) => name === 'compensate-biz measured')).toHaveLength(3);
  });
});
