import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { testDialects, until } from '@holdfast/core/testing';
import { describe, expect, it } from 'vitest';
import type { CallbackView } from '../src/callbacks.ts';
import { onProcesses } from './processes.ts';

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** The service and its customer's receiver, each a process of its own. */
describe.each(testDialects())('callbacks of compute-dispatch on $name', (dialect) => {
  const processes = onProcesses(dialect);

  it('reach the receiver, verified, are made again when it refuses, and can be looked at and resent', async () => {
    const port = await freePort();
    const { address } = await processes.start({ DISPATCH_CALLBACK_PORTS: String(port), DISPATCH_MACHINES: '30' });
    const { printed: receiver } = await processes.start({}, 'receiver', '--service', address, '--port', String(port), '--fail', '1');
    const call = async (path: string, method = 'GET', tenant = 'demo', body?: object) => {
      const response = await fetch(`${address}${path}`, {
        method,
        headers: { 'x-tenant': tenant, ...(body ? { 'content-type': 'application/json' } : {}) },
        ...(body ? { body: JSON.stringify(body) } : {}),
      });
      return { status: response.status, body: (await response.json()) as Record<string, never> };
    };
    const { id } = (await call('/v1/batches', 'POST', 'demo', { businessOrderNo: 'told', packageId: 'standard', count: 3, minimum: 1 }))
      .body as unknown as { id: string };
    // Each slot is granted and switched on; each callback is refused once and comes again 3 s later.
    const lines = () => receiver.text.split('\n').filter((line) => line.includes('verified'));
    await until(() => lines().length === 12, { withinMs: 40_000, what: 'twelve requests' });
    expect(lines().filter((line) => line.includes('answered 500'))).toHaveLength(6);
    expect(lines().filter((line) => line.includes('(time 2)'))).toHaveLength(6);
    expect(lines().filter((line) => / GRANTED +slot \d+ on m-/.test(line))).toHaveLength(6);
    expect(receiver.text).not.toContain('refused:');
    const { slots } = (await call(`/v1/batches/${id}/slots`)).body as unknown as { slots: { applyId: string }[] };
    const slot = slots[0]?.applyId ?? '';
    const callbacks = async (): Promise<CallbackView[]> =>
      ((await call(`/v1/slots/${slot}/callbacks`)).body as unknown as { callbacks: CallbackView[] }).callbacks;
    const told = await until(async () => {
      const list = await callbacks();
      return list.every(({ state }) => state === 'DELIVERED') ? list : undefined;
    });
    expect(told.map(({ says, attempts }) => [says, attempts.map(({ outcome, httpStatus }) => `${outcome} ${httpStatus}`)])).toEqual([
      ['GRANTED', ['refused 500', 'delivered 200']],
      ['POWER_ON', ['refused 500', 'delivered 200']],
    ]);
    const first = told[0]?.id ?? '';
    expect((await call(`/v1/callbacks/${first}/resend`, 'POST', 'other')).status).toBe(404);
    expect((await call(`/v1/slots/${slot}/callbacks`, 'GET', 'other')).status).toBe(404);
    expect((await call(`/v1/callbacks/${first}/resend`, 'POST')).status).toBe(202);
    await until(async () => (await callbacks())[0]?.attempts.at(-1)?.trigger === 'manual');
    await until(() => lines().length === 13);
    // Where it may not go.
    const refused = await call('/v1/callback-endpoint', 'PUT', 'evil', { url: 'http://169.254.169.254/latest/meta-data/' });
    expect(refused).toMatchObject({
      status: 422,
      body: { type: expect.stringContaining('callback-url-not-allowed'), detail: expect.stringContaining('metadata') },
    });
    expect((await call('/v1/callback-endpoint', 'GET', 'evil')).status).toBe(404);
    expect((await call('/v1/callback-endpoint')).body).toMatchObject({ url: `http://127.0.0.1:${port}/callbacks` });
  }, 90_000);
});
