import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { testDialects, until } from '@holdfast/core/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { derivedKey } from '../src/config.ts';
import { onProcesses, secret } from './processes.ts';

interface Span {
  readonly name: string;
  readonly traceId: string;
  readonly parentSpanId?: string;
}

/** A collector that keeps what it is sent. */
describe.each(testDialects())('traces of compute-dispatch on $name', (dialect) => {
  const processes = onProcesses(dialect);
  const spans: Span[] = [];
  let collector: Server;
  beforeAll(async () => {
    collector = createServer((request, response) => {
      const parts: Buffer[] = [];
      request.on('data', (part) => parts.push(part));
      request.on('end', () => {
        const { resourceSpans } = JSON.parse(Buffer.concat(parts).toString());
        for (const { scopeSpans } of resourceSpans) for (const scope of scopeSpans) spans.push(...scope.spans);
        response.setHeader('content-type', 'application/json').end('{}');
      });
    });
    await new Promise<void>((resolve) => collector.listen(0, '127.0.0.1', resolve));
  });
  afterAll(() => void collector?.close());

  it('follow an order from the request through its tasks, and continue the caller’s', async () => {
    const { address } = await processes.start({
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${(collector.address() as AddressInfo).port}`,
    });
    const traceId = 'a'.repeat(31);
    const response = await fetch(`${address}/v1/batches`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${derivedKey(secret, 'demo')}`,
        'content-type': 'application/json',
        traceparent: `00-${traceId}b-00f067aa0ba902b7-01`,
      },
      body: JSON.stringify({ businessOrderNo: 'traced', packageId: 'standard', count: 2, minimum: 1, applyDurationMinutes: 1 }),
    });
    expect(response.status).toBe(202);
    const own = () => spans.filter((span) => span.traceId === `${traceId}b`);
    await until(() => own().some(({ name }) => name.includes('allocate')), { withinMs: 40_000, what: 'the task is in the trace' });
    const request = own().find(({ name }) => name === 'POST /v1/batches');
    expect(request?.parentSpanId).toBe('00f067aa0ba902b7');
    const metrics = await (await fetch(`${address}/metrics`)).text();
    expect(metrics).toContain('holdfast_settled');
  }, 60_000);
});
