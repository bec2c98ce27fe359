import {
  type Counter,
  context,
  type Gauge,
  type Link,
  metrics,
  propagation,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  type Tracer,
  trace,
} from '@opentelemetry/api';

/** Spans and metrics of one package on `@opentelemetry/api`. They are recorded only if the service registers an OpenTelemetry SDK. */
export class Telemetry {
  readonly #tracer: Tracer;
  #recording = false;
  #probedAt = Number.NEGATIVE_INFINITY;
  /** Rows claimed, by `kind`. */
  readonly claimed: Counter;
  /** Rows settled, by `kind` and `outcome`. */
  readonly settled: Counter;
  /** Runs whose lease was lost, by `kind`. */
  readonly leaseLost: Counter;
  /** Rows held by this worker at the last poll, by `kind`. */
  readonly inFlight: Gauge;
  /** How long the first row of a `kind` had been ready at the last poll, in ms. */
  readonly dueLag: Gauge;

  constructor(scope: string) {
    this.#tracer = trace.getTracer(scope);
    const meter = metrics.getMeter(scope);
    this.claimed = meter.createCounter('holdfast.claimed', { unit: '{row}' });
    this.settled = meter.createCounter('holdfast.settled', { unit: '{row}' });
    this.leaseLost = meter.createCounter('holdfast.lease_lost', { unit: '{row}' });
    this.inFlight = meter.createGauge('holdfast.in_flight', { unit: '{row}' });
    this.dueLag = meter.createGauge('holdfast.due_lag', { unit: 'ms' });
  }

  /** True if spans are recorded. Probed once a second, since an SDK may be registered late. */
  get recording(): boolean {
    const now = performance.now();
    if (now - this.#probedAt > 1_000) {
      this.#probedAt = now;
      const probe = this.#tracer.startSpan('holdfast.probe');
      this.#recording = probe.isRecording();
      // Not ended: an unended span is never exported.
    }
    return this.#recording;
  }

  /**
   * Runs `fn` in a span of its own. The span continues the trace that `traceparents` names; if they name several, as those of a batch do, it
   * begins a new trace and links to each. The active context is ignored: it belongs to the code that woke the worker.
   */
  async span<T>(name: string, traceparents: readonly (string | null | undefined)[], fn: (span: Span) => Promise<T>): Promise<T> {
    const named = [...new Set(traceparents)].flatMap((traceparent) => traceparent ?? []);
    const origins = named.map((traceparent) => propagation.extract(ROOT_CONTEXT, { traceparent }));
    const parent = origins.length === 1 ? (origins[0] ?? ROOT_CONTEXT) : ROOT_CONTEXT;
    const links = origins.length > 1 ? origins.flatMap((origin) => linkTo(trace.getSpanContext(origin))) : [];
    const span = this.#tracer.startSpan(name, { kind: SpanKind.CONSUMER, links }, parent);
    if (!span.isRecording()) {
      span.end();
      return fn(span);
    }
    return context.with(trace.setSpan(parent, span), async () => {
      try {
        return await fn(span);
      } catch (error) {
        span.setStatus({ code: SpanStatusCode.ERROR, message: error instanceof Error ? error.message : String(error) });
        throw error;
      } finally {
        span.end();
      }
    });
  }
}

function linkTo(origin: SpanContext | undefined): readonly Link[] {
  return origin ? [{ context: origin }] : [];
}

/** The W3C `traceparent` of the active span, or `null`. It is stored with every row, so that the trace continues when the row runs. */
export function activeTraceparent(): string | null {
  const active = trace.getActiveSpan();
  if (active === undefined) return null;
  const { traceId, spanId, traceFlags } = active.spanContext();
  return `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`;
}
