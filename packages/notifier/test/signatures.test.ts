import { generateKeyPairSync } from 'node:crypto';
import { until } from '@holdfast/core/testing';
import { Webhook } from 'standardwebhooks';
import { Webhook as Svix } from 'svix';
import { describe, expect, it } from 'vitest';
import { NotSignableError, sortedParams, standardWebhooks } from '../src/index.ts';
import { signParams } from '../src/sign/sorted-params.ts';
import { verifyWebhook } from '../src/verify/index.ts';
import { event, onEveryDatabase } from './suite.ts';

const hmac = (n: number): string => `whsec_${Buffer.alloc(24, n).toString('base64')}`;

function ed25519(): { readonly secret: string; readonly public: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const seed = privateKey.export({ format: 'der', type: 'pkcs8' }).subarray(-32);
  const point = publicKey.export({ format: 'der', type: 'spki' }).subarray(-32);
  return { secret: `whsk_${Buffer.concat([seed, point]).toString('base64')}`, public: `whpk_${point.toString('base64')}` };
}

describe('sorted parameters', () => {
  const key = '192006250b4c09247ec02edce69f6a2d';
  const params = { mch_id: '10000100', device_info: '1000', body: 'test', nonce_str: 'ibuaiVcKdpRxkhJA', appid: 'wxd930ea5d5a258f4f' };

  it('give the values of the published example, MD5 and HMAC, whatever is empty or signed already', () => {
    expect(signParams(params, key, 'wechat-md5')).toBe('9A0A8659F005D6984697E2CA0A9CF3B7');
    expect(signParams(params, key, 'wechat-hmac')).toBe('6A9AE1657590FD6257D693A078E1C3E4BB6BA4DC30B23E0EE2496E54170DACD6');
    expect(signParams({ ...params, sign: 'x', empty: '', none: null }, key, 'wechat-md5')).toBe('9A0A8659F005D6984697E2CA0A9CF3B7');
    // md5 of a=1&b=2KEY
    expect(signParams({ b: '2', a: '1', sign_type: 'MD5' }, 'KEY', 'alipay-md5')).toBe('c5b3153ba616141a0bf58e29ad4cbb3f');
  });

  it('refuse what is not written alike everywhere', () => {
    for (const value of [1, true, { a: '1' }, ['1'], 1n])
      expect(() => signParams({ a: value }, key, 'wechat-md5')).toThrow(NotSignableError);
    for (const payload of ['a=1', [], null, 7]) expect(() => signParams(payload, key, 'wechat-md5')).toThrow(/flat object/);
  });
});

onEveryDatabase(
  'a request',
  (suite) => {
    /** Returns the requests received while the keys change from attempt to attempt. */
    const received = async (keysAt: (received: number) => string | readonly string[], attempts = 1) => {
      const receiver = await suite.receiver(attempts === 1 ? 'ok' : [...new Array(attempts - 1).fill(500), 'ok']);
      const notifier = suite.notifier({ keys: () => keysAt(receiver.requests.length), sign: [standardWebhooks()] });
      const worker = suite.use(notifier.worker());
      await notifier.now().trigger(event(receiver.url));
      await worker.start();
      for (let attempt = 1; attempt <= attempts; attempt++) {
        await until(() => receiver.requests.length === attempt);
        if (attempt < attempts) {
          await until(async () => (await suite.db.knex('notifier_notification').where({ notify_times: attempt })).length === 1);
          await suite.db.knex('notifier_notification').update({ due_at: 1 });
          await suite.db.knex('notifier_wake').insert({ endpoint_id: (await suite.db.knex('notifier_endpoint').first('id'))?.id });
        }
      }
      return receiver.requests.map(({ body, headers }) => ({ body, headers: headers as Record<string, string> }));
    };
    const verifiers = (secret: string) => [new Webhook(secret), new Svix(secret)];

    it('is verified by standardwebhooks and svix, under the old key and the new one, with an asymmetric one first', async () => {
      const asymmetric = ed25519();
      const [request] = await received(() => [asymmetric.secret, hmac(1), hmac(2)]);
      if (!request) throw new Error('nothing was received');
      expect(request.headers['webhook-signature']).toMatch(/^v1a,\S+ v1,\S+ v1,\S+$/);
      for (const secret of [hmac(1), hmac(2)])
        for (const verifier of verifiers(secret)) expect(() => verifier.verify(request.body, request.headers)).not.toThrow();
      for (const verifier of verifiers(hmac(3))) expect(() => verifier.verify(request.body, request.headers)).toThrow();
      const asRequest = (body = request.body, headers = request.headers) =>
        new Request('https://example.com', { method: 'POST', body, headers });
      for (const key of [asymmetric.public, hmac(1), hmac(2)])
        expect((await verifyWebhook(asRequest(), { keys: [key] })).json()).toEqual(JSON.parse(request.body));
      await expect(verifyWebhook(asRequest(), { keys: [hmac(3), ed25519().public] })).rejects.toMatchObject({ code: 'signature-invalid' });
      // A flipped byte, and a request of long ago or of the future.
      const flipped = request.body.replace('n', 'm');
      for (const verifier of verifiers(hmac(1))) expect(() => verifier.verify(flipped, request.headers)).toThrow();
      await expect(verifyWebhook(asRequest(flipped), { keys: [hmac(1), asymmetric.public] })).rejects.toThrow(/No signature/);
      const id = request.headers['webhook-id'] ?? '';
      for (const seconds of [-301, 301]) {
        const timestamp = String(Math.floor(Date.now() / 1_000) + seconds);
        const signed = standardWebhooks().headers?.({ id, timestamp: Number(timestamp), body: Buffer.from(request.body) }, [hmac(1)]) ?? {};
        for (const verifier of verifiers(hmac(1))) expect(() => verifier.verify(request.body, { ...signed })).toThrow(/timestamp/i);
        await expect(verifyWebhook(asRequest(request.body, { ...signed }), { keys: [hmac(1)] })).rejects.toThrow(/301 s|302 s/);
      }
    });

    it('is verified though the key is rotated between attempts, by who knows the old or the new one', async () => {
      const requests = await received((before) => (before === 0 ? hmac(1) : before === 1 ? [hmac(2), hmac(1)] : hmac(2)), 3);
      expect(requests).toHaveLength(3);
      const verifies = (secret: string): boolean[] =>
        requests.map(({ body, headers }) => {
          try {
            new Webhook(secret).verify(body, headers);
            return true;
          } catch {
            return false;
          }
        });
      expect(verifies(hmac(1))).toEqual([true, true, false]);
      expect(verifies(hmac(2))).toEqual([false, true, true]);
      expect(new Set(requests.map(({ headers }) => headers['webhook-id'])).size).toBe(1);
      expect(new Set(requests.map(({ body }) => body)).size).toBe(1);
    });

    it('carries both families, the parameters in the body or in a header', async () => {
      const receiver = await suite.receiver();
      const secret = hmac(4);
      for (const place of ['body', 'header'] as const) {
        const sign = [standardWebhooks(), sortedParams({ flavor: 'wechat-hmac', place })];
        const notifier = suite.notifier({ keys: () => secret, sign });
        const worker = suite.use(notifier.worker());
        await worker.start();
        await notifier.now().trigger(event(receiver.url, { payload: { b: '2', a: '1', empty: '' } }));
        await until(() => receiver.requests.length === (place === 'body' ? 1 : 2));
        await worker.stop();
        const last = receiver.requests.at(-1);
        const request = () =>
          new Request('https://example.com', { method: 'POST', body: last?.body ?? '', headers: last?.headers as Record<string, string> });
        await verifyWebhook(request(), { keys: [secret] });
        const received = await verifyWebhook(request(), { keys: [hmac(5), secret], sortedParams: { flavor: 'wechat-hmac', place } });
        expect(received.json()).toMatchObject({ a: '1', b: '2' });
        expect('sign' in (received.json() as object)).toBe(place === 'body');
        await expect(verifyWebhook(request(), { keys: [hmac(5)], sortedParams: { flavor: 'wechat-hmac', place } })).rejects.toThrow(
          /does not match/,
        );
      }
    });
  },
  ['sqlite', 'postgres', 'mariadb', 'mysql'],
);
