import { context, metrics, propagation, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { PrometheusExporter, PrometheusSerializer } from '@opentelemetry/exporter-prometheus';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { MeterProvider } from '@opentelemetry/sdk-metrics';
import { BatchSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';

export interface Telemetry {
  /** The metrics of the packages (`holdfast.*`), in the text format of Prometheus. */
  metrics(): Promise<string>;
  /** Sends pending spans and metrics. */
  stop(): Promise<void>;
}

/**
 * Records the packages' OpenTelemetry data: metrics always, spans if `otlp` gives an address to send them to (OTLP over HTTP, without
 * `/v1/traces`). A request, the tasks that follow from it, and its messages are one trace.
 */
export function startTelemetry(otlp: string | undefined): Telemetry {
  const resource = resourceFromAttributes({ 'service.name': 'compute-dispatch' });
  const exporter = new PrometheusExporter({ preventServerStart: true });
  metrics.setGlobalMeterProvider(new MeterProvider({ resource, readers: [exporter] }));
  let tracers: TracerProvider | undefined;
  if (otlp !== undefined) {
    const spans = new OTLPTraceExporter({ url: `${otlp.replace(/\/$/, '')}/v1/traces` });
    tracers = new TracerProvider({ resource, spanProcessors: [new BatchSpanProcessor({ exporter: spans, scheduledDelayMillis: 1_000 })] });
    context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
    propagation.setGlobalPropagator(new W3CTraceContextPropagator());
    trace.setGlobalTracerProvider(tracers);
  }
  const serializer = new PrometheusSerializer();
  return {
    metrics: async () => serializer.serialize((await exporter.collect()).resourceMetrics),
    stop: async () => {
      await tracers?.shutdown();
    },
  };
}
