import { exponential, silentLogger, steps, wait } from '@holdfast/core';
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { describe, expect, it } from 'vitest';
import { ack, type Delivery, type DeliveryVerdict, handling, reject, retry, type SubscribeOptions } from '../src/index.ts';

interface Order {
  readonly id: number;
}

const orders: StandardSchemaV1<unknown, Order> = {
  '~standard': {
    version: 1,
    vendor: 'test',
    validate: async (value) =>
      typeof (value as Order)?.id === 'number' ? { value: value as Order } : { issues: [{ message: 'must be a number', path: ['id'] }] },
  },
};

function raw(body: string, attempt = 1, signal: AbortSignal = new AbortController().signal) {
  const message = { id: '1', topic: 't', headers: {}, body: Buffer.from(body), contentType: 'application/json' };
  return { message, attempt, at: {}, signal };
}

async function verdictOf<P>(
  options: Omit<SubscribeOptions<P>, 'group'>,
  handler: (delivery: Delivery<P>) => Promise<DeliveryVerdict>,
  delivery = raw('{}'),
): Promise<DeliveryVerdict> {
  return handling<P>({ group: 'g', ...options }, handler, silentLogger)(delivery);
}

describe('a handler that fails', () => {
  it('is tried again by the policy, and rejected after its last attempt', async () => {
    const options = { retry: steps('1s', '4s') };
    const fails = async () => Promise.reject(new Error('no stock\0'));
    expect(await verdictOf(options, fails, raw('{}', 1))).toEqual(retry(1_000));
    expect(await verdictOf(options, fails, raw('{}', 2))).toEqual(retry(4_000));
    expect(await verdictOf(options, fails, raw('{}', 3))).toEqual(reject('attempt 3 failed and was the last: no stock\uFFFD'));
  });

  it('can not ask for more attempts than the policy has', async () => {
    const options = { retry: exponential({ first: '1s' }).upTo(2) };
    expect(await verdictOf(options, async () => retry(5), raw('{}', 1))).toEqual(retry(5));
    expect(await verdictOf(options, async () => retry(5), raw('{}', 2))).toEqual(reject('attempt 2 asked for a retry and was the last.'));
  });

  it('is tried again after retryMs without end if there is no policy', async () => {
    const fails = async () => Promise.reject(new Error('no'));
    expect(await verdictOf({ retryMs: 70 }, fails, raw('{}', 1_000))).toEqual(retry(70));
    expect(await verdictOf({}, fails)).toEqual(retry(1_000));
  });

  it.each([
    undefined,
    null,
    'ack',
    {},
    { outcome: 'retry' },
    retry(Number.NaN),
    retry(-1),
    retry(Number.POSITIVE_INFINITY),
    { outcome: 'reject' },
  ])('counts as failed if it returns %j', async (answer) => {
    expect(await verdictOf({ retryMs: 70 }, async () => answer as DeliveryVerdict)).toEqual(retry(70));
  });
});

describe('a handler that does not end', () => {
  it('gets its signal aborted after handlerTimeoutMs, and is given up if it ignores that', async () => {
    const signals: AbortSignal[] = [];
    const deaf = ({ signal }: Delivery): Promise<DeliveryVerdict> => {
      signals.push(signal);
      return new Promise(() => undefined);
    };
    expect(await verdictOf({ handlerTimeoutMs: 20, retryMs: 70 }, deaf)).toEqual(retry(70));
    expect(signals[0]?.reason).toMatchObject({ message: expect.stringContaining('20 ms (handlerTimeoutMs)') });
  });

  it('may still answer after its signal has aborted', async () => {
    const slow = async ({ signal }: Delivery): Promise<DeliveryVerdict> => {
      await wait(60_000, signal).catch(() => undefined);
      return ack;
    };
    expect(await verdictOf({ handlerTimeoutMs: 20 }, slow)).toEqual(ack);
  });

  it('costs no attempt of its policy when another member has the delivery', async () => {
    const lost = new AbortController();
    const deaf = (): Promise<DeliveryVerdict> => {
      lost.abort(new Error('lost'));
      return new Promise(() => undefined);
    };
    expect(await verdictOf({ retry: steps() }, deaf, raw('{}', 1, lost.signal))).toEqual(retry(0));
  });

  it('is given up too when its schema never answers', async () => {
    const deaf: StandardSchemaV1<unknown, Order> = {
      '~standard': { version: 1, vendor: 'test', validate: () => new Promise(() => undefined) },
    };
    expect(await verdictOf({ schema: deaf, handlerTimeoutMs: 20, retryMs: 70 }, async () => ack)).toEqual(retry(70));
  });
});

describe('a payload', () => {
  it('is parsed, checked and typed', async () => {
    let id = 0;
    const handler = async ({ payload }: Delivery<Order>): Promise<DeliveryVerdict> => {
      id = payload.id;
      return ack;
    };
    expect(await verdictOf({ schema: orders }, handler, raw('{"id":7}'))).toEqual(ack);
    expect(id).toBe(7);
  });

  it.each([
    ['{"id":"7"}', 'The payload does not fit the schema of t: id: must be a number.'],
    ['{', 'The body is not JSON: '],
  ])('that does not fit is rejected without a call of the handler: %s', async (body, reason) => {
    let calls = 0;
    const handler = async (): Promise<DeliveryVerdict> => {
      calls += 1;
      return ack;
    };
    const verdict = await verdictOf({ schema: orders }, handler, raw(body));
    expect(verdict).toMatchObject({ outcome: 'reject', reason: expect.stringContaining(reason) });
    expect(calls).toBe(0);
  });
});
