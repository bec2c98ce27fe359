import { testDialects, until } from '@holdfast/core/testing';
import { describe, expect, it } from 'vitest';
import type { CallbackView } from '../src/callbacks.ts';
import { derivedKey } from '../src/config.ts';
import { ApiKeys } from '../src/tenants/api-keys.ts';
import { freePort, onProcesses, secret } from './processes.ts';

/** The service and its customer's receiver, each a process of its own. */
describe.each(testDialects())('callbacks of compute-dispatch on $name', (dialect) => {
  const processes = onProcesses(dialect);

  it('reach the receiver, verified, are made again when it refuses, and can be looked at and resent', async () => {
    const port = await freePort();
    const { address, call } = await processes.start({ DISPATCH_CALLBACK_PORTS: String(port), DISPATCH_MACHINES: '30' });
    await call('PUT', '/v1/tenants/other', {}, 'admin');
    await new ApiKeys(processes.db.knex).keep(derivedKey(secret, 'other'), 'other', 0);
    const key = derivedKey(secret, 'demo');
    const { printed: receiver } = await processes.start(
      {},
      'receiver',
      '--service',
      address,
      '--port',
      String(port),
      '--fail',
      '1',
      '--api-key',
      key,
    );
    const order = { businessOrderNo: 'told', packageId: 'standard', count: 3, minimum: 1, applyDurationMinutes: 1 };
    const { id } = (await call<{ id: string }>('POST', '/v1/batches', order)).body;
    // Each slot is granted and switched on; each callback is refused once and comes again 3 s later.
    const lines = () => receiver.text.split('\n').filter((line) => line.includes('verified'));
    await until(() => lines().length === 12, { withinMs: 40_000, what: 'twelve requests' });
    expect(lines().filter((line) => line.includes('answered 500'))).toHaveLength(6);
    expect(lines().filter((line) => line.includes('(time 2)'))).toHaveLength(6);
    expect(lines().filter((line) => / GRANTED +slot \d+ on m-/.test(line))).toHaveLength(6);
    expect(receiver.text).not.toContain('refused:');
    const { slots } = (await call<{ slots: { applyId: string }[] }>('GET', `/v1/batches/${id}/slots`)).body;
    const slot = slots[0]?.applyId ?? '';
    const callbacks = async (): Promise<CallbackView[]> =>
      (await call<{ callbacks: CallbackView[] }>('GET', `/v1/slots/${slot}/callbacks`)).body.callbacks;
    const told = await until(async () => {
      const list = await callbacks();
      return list.every(({ state }) => state === 'DELIVERED') ? list : undefined;
    });
    expect(told.map(({ says, attempts }) => [says, attempts.map(({ outcome, httpStatus }) => `${outcome} ${httpStatus}`)])).toEqual([
      ['GRANTED', ['refused 500', 'delivered 200']],
      ['RUNNING', ['refused 500', 'delivered 200']],
    ]);
    const first = told[0]?.id ?? '';
    expect((await call('POST', `/v1/callbacks/${first}/resend`, undefined, 'other')).status).toBe(404);
    expect((await call('GET', `/v1/slots/${slot}/callbacks`, undefined, 'other')).status).toBe(404);
    expect((await call('POST', `/v1/callbacks/${first}/resend`)).status).toBe(202);
    await until(async () => (await callbacks())[0]?.attempts.at(-1)?.trigger === 'manual');
    await until(() => lines().length === 13);
    // Where it may not go.
    const refused = await call('PUT', '/v1/callback-endpoint', { url: 'http://169.254.169.254/latest/meta-data/' }, 'other');
    expect(refused).toMatchObject({
      status: 422,
      body: { type: expect.stringContaining('callback-url-not-allowed'), detail: expect.stringContaining('metadata') },
    });
    expect((await call('GET', '/v1/callback-endpoint', undefined, 'other')).status).toBe(404);
    expect((await call('GET', '/v1/callback-endpoint')).body).toMatchObject({ url: `http://127.0.0.1:${port}/callbacks` });
  }, 90_000);
});
