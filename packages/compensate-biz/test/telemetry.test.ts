import { until } from '@holdfast/core/testing';
import { context, metrics, propagation, type Span, type SpanOptions, type Tracer, trace } from '@opentelemetry/api';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { bizType } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';
import { any } from './suite-schema.ts';

/** What an SDK would receive. */
const measured = new Map<string, { value: number; attributes: Record<string, unknown> }[]>();
const spans: { name: string; parent: string | undefined; links: readonly string[] }[] = [];

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
        startSpan: (name: string, { links = [] }: SpanOptions = {}, parent = context.active()) => {
          spans.push({ name, parent: trace.getSpanContext(parent)?.traceId, links: links.map((link) => link.context.traceId) });
          return { isRecording: () => true, end: () => undefined, setStatus: () => undefined } as unknown as Span;
        },
      }) as unknown as Tracer,
  });
});
beforeAll(() => {
  // As W3C's does.
  propagation.setGlobalPropagator({
    inject: () => undefined,
    fields: () => [],
    extract: (origin, carrier) => {
      const [, traceId = '', spanId = ''] = (carrier as { traceparent: string }).traceparent.split('-');
      return trace.setSpanContext(origin, { traceId, spanId, traceFlags: 1 });
    },
  });
});
afterAll(() => {
  propagation.disable();
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

  it('counts rows that their run has committed, alone or in a batch, as those that the worker settles', async () => {
    measured.clear();
    const biz = suite.create({ committed: bizType(any, { concurrency: 1 }), 'committed-many': bizType(any, { concurrency: 1 }) });
    const succeeded: string[] = [];
    biz.events.on('task:succeeded', ({ type }) => void succeeded.push(type));
    biz.handle('committed', (context, run) => (context.n === 0 ? undefined : run.commit(async () => undefined)));
    biz.handleBatch('committed-many', { size: 10 }, async (items, batch) => {
      const [first] = items;
      if (first) batch.reject(first, 'no');
      await batch.commit(async () => undefined);
    });
    await biz.now().submitMany('committed', [{ n: 0 }, { n: 1 }, { n: 2 }]);
    await biz.now().submitMany('committed-many', [{}, {}, {}]);
    await using worker = biz.worker();
    await worker.start();
    const counted = () => {
      const sums: Record<string, number> = {};
      for (const { value, attributes } of measured.get('holdfast.settled') ?? []) {
        const key = `${attributes.kind} ${attributes.outcome}`;
        sums[key] = (sums[key] ?? 0) + value;
      }
      return sums;
    };
    await until(() => Object.values(counted()).reduce((sum, n) => sum + n, 0) >= 6);
    expect(counted()).toEqual({ 'committed done': 3, 'committed-many done': 2, 'committed-many dead': 1 });
    await until(() => succeeded.length >= 5);
    expect(succeeded.sort()).toEqual(['committed', 'committed', 'committed', 'committed-many', 'committed-many']);
  });

  it.each([
    [1, 'continues the trace of its row'],
    [2, 'links to the trace of each of its rows'],
  ])('a batch of %i %s', async (rows) => {
    spans.length = 0;
    const type = `batch-${rows}`;
    const biz = suite.create({ [type]: bizType(any, { concurrency: 1 }) });
    let seen = 0;
    biz.handleBatch(type, { size: 10 }, (items) => {
      seen += items.length;
    });
    const ids = Array.from({ length: rows }, (_, i) => String(i + 1).repeat(32));
    await biz.now().submitMany(
      type,
      ids.map(() => ({})),
    );
    for (const [i, row] of (await suite.db.knex('compensate_biz').where({ biz_type: type }).orderBy('id')).entries())
      await suite.db
        .knex('compensate_biz')
        .where({ id: row.id })
        .update({ traceparent: `00-${ids[i]}-00f067aa0ba902b7-01` });
    await using worker = biz.worker();
    await worker.start();
    await until(() => seen === rows);
    expect(spans.filter(({ name }) => name === `compensate-biz ${type}`)).toEqual([
      { name: `compensate-biz ${type}`, parent: rows === 1 ? ids[0] : undefined, links: rows === 1 ? [] : ids },
    ]);
  });
});
