import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import express from 'express';
import fastify from 'fastify';
import { Hono } from 'hono';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { standardWebhooks } from '../src/index.ts';
import { success, verifyWebhook } from '../src/verify/index.ts';

const key = `whsec_${Buffer.alloc(24, 3).toString('base64')}`;
const body = '{"order":"1","note":"ü"}';

function signed(secret = key): Record<string, string> {
  const timestamp = Math.floor(Date.now() / 1_000);
  return {
    'content-type': 'application/json',
    ...standardWebhooks().headers?.({ id: 'msg_1', timestamp, body: Buffer.from(body) }, [secret]),
  };
}

describe('a receiver', () => {
  const servers: { close(): unknown }[] = [];
  afterEach(async () => {
    for (const server of servers.splice(0)) await server.close();
  });
  const url = (server: Server): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`;
  const listen = async (server: Server): Promise<string> => {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    servers.push(server);
    return url(server);
  };
  const receivers: Record<string, () => Promise<string>> = {
    Express: () => {
      const app = express();
      app.post('/hook', express.raw({ type: '*/*' }), async (request, response) => {
        try {
          const { id } = await verifyWebhook(request, { keys: [key] });
          response.set('x-id', id).send('success');
        } catch (error) {
          response.status(400).send((error as Error).message);
        }
      });
      return listen(createServer(app));
    },
    Fastify: async () => {
      const app = fastify();
      app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, payload, done) => done(null, payload));
      app.removeContentTypeParser('application/json');
      app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, payload, done) => done(null, payload));
      app.post('/hook', async (request, reply) => {
        try {
          const { id } = await verifyWebhook(Object.assign(request.raw, { rawBody: request.body }), { keys: [key] });
          return reply.header('x-id', id).send('success');
        } catch (error) {
          return reply.code(400).send((error as Error).message);
        }
      });
      servers.push(app);
      return `${await app.listen({ port: 0, host: '127.0.0.1' })}/hook`;
    },
    Hono: () => {
      const app = new Hono();
      app.post('/hook', async (context) => {
        try {
          await verifyWebhook(context.req.raw, { keys: [key] });
          return success();
        } catch (error) {
          return context.text((error as Error).message, 400);
        }
      });
      return listen(
        createServer(async (request, response) => {
          const chunks: Buffer[] = [];
          for await (const chunk of request) chunks.push(chunk as Buffer);
          const answer = await app.fetch(
            new Request(`http://localhost${request.url}`, {
              method: 'POST',
              headers: request.headers as Record<string, string>,
              body: Buffer.concat(chunks),
            }),
          );
          response.writeHead(answer.status).end(await answer.text());
        }),
      );
    },
    'plain node:http': () =>
      listen(
        createServer((request, response) => {
          verifyWebhook(request, { keys: [key] }).then(
            () => response.end('success'),
            (error) => response.writeHead(400).end((error as Error).message),
          );
        }),
      ),
  };

  it.each(Object.entries(receivers))('in %s lets in what is signed, and says why it does not', async (_name, start) => {
    const to = await start();
    const post = async (headers: Record<string, string>, text = body) => {
      const response = await fetch(to, { method: 'POST', headers, body: text });
      return [response.status, await response.text()] as const;
    };
    expect(await post(signed())).toEqual([200, 'success']);
    const [status, message] = await post(signed(), body.replace('1', '2'));
    expect([status, message]).toEqual([400, expect.stringMatching(/No signature of the request matches/)]);
    expect(await post(signed(`whsec_${Buffer.alloc(24, 4).toString('base64')}`))).toMatchObject([400, /No signature/]);
    expect(await post({ 'content-type': 'application/json' })).toMatchObject([400, /is not signed/]);
  });

  it('goes by the wall clock of now, not of when the process started', async () => {
    const request = () => new Request('https://example.com', { method: 'POST', headers: signed(), body });
    // As after the clock was set, or the machine slept, for ten minutes.
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 600_000 });
    try {
      expect(await verifyWebhook(request(), { keys: [key] })).toMatchObject({ id: 'msg_1' });
    } finally {
      vi.useRealTimers();
    }
    await expect(verifyWebhook(request(), { keys: [key] })).resolves.toBeDefined();
  });

  it('is told when its framework parsed the body first, when it is too large, and when it has no keys', async () => {
    const parsed = Object.assign(Object.create(null), { headers: signed(), body: JSON.parse(body) });
    await expect(verifyWebhook(parsed, { keys: [key] })).rejects.toThrow(/parsed before it was verified/);
    const request = () => new Request('https://example.com', { method: 'POST', headers: signed(), body });
    await expect(verifyWebhook(request(), { keys: [key], maxBodyBytes: 10 })).rejects.toThrow(/larger than 10 bytes/);
    await expect(verifyWebhook(request(), { keys: [] })).rejects.toThrow(/keys is empty/);
    await expect(verifyWebhook(request(), { keys: ['whsec_abc'] })).rejects.toMatchObject({ code: 'key-invalid' });
    const received = await verifyWebhook(request(), { keys: [key] });
    expect(received).toMatchObject({ id: 'msg_1', body });
    expect(received.json()).toEqual({ order: '1', note: 'ü' });
    expect(Math.abs(Number(received.sentAt) - Date.now())).toBeLessThan(5_000);
  });
});
