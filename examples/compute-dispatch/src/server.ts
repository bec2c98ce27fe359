import { Readable } from 'node:stream';
import fastifyStatic from '@fastify/static';
import swagger from '@fastify/swagger';
import { HoldfastError } from '@holdfast/core';
import fastify, { type FastifyInstance } from 'fastify';
import {
  hasZodFastifySchemaValidationErrors,
  jsonSchemaTransform,
  serializerCompiler,
  validatorCompiler,
  type ZodTypeProvider,
} from 'fastify-type-provider-zod';
import { z } from 'zod';
import type { Algorithm } from './algorithm.ts';
import { callbackEndpoint, callbackView } from './callbacks.ts';
import { applyRequest, batchView, type Dispatch, slotView } from './dispatch.ts';
import { invoiceView, scanView } from './invoices.ts';
import { Live } from './live.ts';
import { Problem } from './problem.ts';
import { timelineEntry } from './timeline.ts';

const tenantHeaders = z.object({ 'x-tenant': z.string().min(1).max(60).default('demo') });

/** The HTTP face. */
export async function createServer(dispatch: Dispatch, algorithm: Algorithm, pageFolder: string): Promise<FastifyInstance> {
  const app = fastify({ forceCloseConnections: true }).withTypeProvider<ZodTypeProvider>();
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'compute-dispatch', version: '1.0.0', description: 'Apply for cloud computers in batches.' },
    },
    transform: jsonSchemaTransform,
  });
  app.setErrorHandler((error, request, reply) => {
    const problem = asProblem(error);
    if (problem.status >= 500) process.stderr.write(`${request.method} ${request.url}: ${(error as Error).stack}\n`);
    return reply
      .code(problem.status)
      .header('content-type', 'application/problem+json')
      .send(JSON.stringify(problem.body(request.url)));
  });
  app.setNotFoundHandler((request, reply) => {
    const problem = new Problem(404, 'not-found', 'Not found', `There is nothing at ${request.method} ${request.url.split('?')[0]}.`);
    return reply
      .code(404)
      .header('content-type', 'application/problem+json')
      .send(JSON.stringify(problem.body(request.url)));
  });
  app.addHook('onSend', async (_request, reply) => {
    // Attributes of style only: a program's log has colours of its own, and browsers write some into what is being edited.
    const policy = "default-src 'self'; style-src-attr 'unsafe-inline'; frame-ancestors 'none'";
    reply.header('content-security-policy', policy).header('x-content-type-options', 'nosniff');
  });

  app.post(
    '/v1/batches',
    { schema: { summary: 'Apply for a batch', headers: tenantHeaders, body: applyRequest, response: { 202: batchView } } },
    async (request, reply) => {
      const { batch } = await dispatch.apply(request.headers['x-tenant'], request.body);
      return reply.code(202).header('location', `/v1/batches/${batch.id}`).send(batch);
    },
  );
  app.get(
    '/v1/batches',
    {
      schema: {
        summary: 'Batches, newest first',
        headers: tenantHeaders,
        querystring: z.object({ limit: z.coerce.number().int().min(1).max(100).default(20), before: z.string().max(20).optional() }),
        response: { 200: z.object({ batches: z.array(batchView) }) },
      },
    },
    async (request) => ({ batches: await dispatch.batches(request.headers['x-tenant'], request.query.limit, request.query.before) }),
  );
  const byId = z.object({ id: z.string().max(20) });
  app.get(
    '/v1/batches/:id',
    { schema: { summary: 'One batch', headers: tenantHeaders, params: byId, response: { 200: batchView } } },
    async (request) => found(await dispatch.batch(request.headers['x-tenant'], request.params.id), `batch ${request.params.id}`),
  );
  app.get(
    '/v1/batches/:id/slots',
    {
      schema: {
        summary: 'The slots of a batch',
        headers: tenantHeaders,
        params: byId,
        response: { 200: z.object({ slots: z.array(slotView) }) },
      },
    },
    async (request) => {
      found(await dispatch.batch(request.headers['x-tenant'], request.params.id), `batch ${request.params.id}`);
      return { slots: await dispatch.slots(request.params.id) };
    },
  );
  app.get(
    '/v1/slots/:id',
    { schema: { summary: 'One slot', headers: tenantHeaders, params: byId, response: { 200: slotView } } },
    async (request) => {
      const slot = found(await dispatch.slot(request.params.id), `slot ${request.params.id}`);
      found(await dispatch.batch(request.headers['x-tenant'], slot.batchId), `slot ${request.params.id}`);
      return slot;
    },
  );
  app.get(
    '/v1/batches/:id/timeline',
    {
      schema: {
        summary: 'What happened to a batch, as listeners to its topics heard it',
        headers: tenantHeaders,
        params: byId,
        response: { 200: z.object({ timeline: z.array(timelineEntry) }) },
      },
    },
    async (request) => {
      found(await dispatch.batch(request.headers['x-tenant'], request.params.id), `batch ${request.params.id}`);
      return { timeline: await dispatch.timeline.of(request.params.id) };
    },
  );
  app.get(
    '/v1/slots/:id/callbacks',
    {
      schema: {
        summary: 'What the tenant was told of a slot, with every attempt',
        headers: tenantHeaders,
        params: byId,
        response: { 200: z.object({ callbacks: z.array(callbackView) }) },
      },
    },
    async (request) => {
      const tenant = request.headers['x-tenant'];
      const slot = found(await dispatch.slot(request.params.id), `slot ${request.params.id}`);
      found(await dispatch.batch(tenant, slot.batchId), `slot ${request.params.id}`);
      return { callbacks: await dispatch.callbacks.of(tenant, request.params.id) };
    },
  );
  app.get(
    '/v1/slots/:id/invoices',
    {
      schema: {
        summary: 'What a slot has cost so far',
        headers: tenantHeaders,
        params: byId,
        response: { 200: z.object({ invoices: z.array(invoiceView) }) },
      },
    },
    async (request) => {
      const slot = found(await dispatch.slot(request.params.id), `slot ${request.params.id}`);
      found(await dispatch.batch(request.headers['x-tenant'], slot.batchId), `slot ${request.params.id}`);
      return { invoices: await dispatch.invoices.of(request.params.id) };
    },
  );
  app.post(
    '/v1/invoice-scan',
    {
      schema: {
        summary: 'Look for invoices that were not sent, now',
        body: z.object({ databases: z.string().max(100).default('1,2') }),
        response: { 202: z.object({ databases: z.string() }) },
      },
    },
    async (request, reply) => {
      await dispatch.invoices.beginScan(request.body.databases);
      return reply.code(202).send({ databases: request.body.databases });
    },
  );
  app.get(
    '/v1/invoice-scan',
    { schema: { summary: 'How far the last scan for unsent invoices is', response: { 200: scanView } } },
    async () => dispatch.invoices.progress(),
  );
  app.post(
    '/v1/callbacks/:id/resend',
    {
      schema: {
        summary: 'Send a callback once more, now',
        headers: tenantHeaders,
        params: byId,
        response: { 202: z.object({ id: z.string() }) },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      found((await dispatch.callbacks.resend(request.headers['x-tenant'], id)) || undefined, `callback ${id}`);
      return reply.code(202).send({ id });
    },
  );
  app.put(
    '/v1/callback-endpoint',
    {
      schema: {
        summary: 'Register where slot changes are told, signed by Standard Webhooks with the key of the answer',
        headers: tenantHeaders,
        body: z.object({ url: z.string().max(2_048) }),
        response: { 200: callbackEndpoint },
      },
    },
    async (request) => dispatch.callbacks.register(request.headers['x-tenant'], request.body.url),
  );
  app.get(
    '/v1/callback-endpoint',
    { schema: { summary: 'Where slot changes are told', headers: tenantHeaders, response: { 200: callbackEndpoint } } },
    async (request) => found(await dispatch.callbacks.endpoint(request.headers['x-tenant']), 'callback endpoint of this tenant'),
  );
  // Ready: messages come in and go out. Requests are accepted all the same: what they say waits in the outbox.
  app.get('/readyz', { schema: { hide: true } }, async (_request, reply) => {
    await dispatch.knex.raw('SELECT 1');
    return reply.status(dispatch.ready ? 200 : 503).send({ status: dispatch.ready ? 'ready' : 'waiting for the broker' });
  });
  app.get('/healthz', { schema: { hide: true } }, async () => {
    await dispatch.knex.raw('SELECT 1');
    return { status: 'ok' };
  });
  app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger());

  app.get('/v1/algorithm/about', { schema: { hide: true } }, async () => ({
    languages: algorithm.languages.map(({ name, title }) => ({ name, title: title ?? name })),
    where: algorithm.where,
    ...(algorithm.problem === undefined ? {} : { problem: algorithm.problem }),
  }));
  await app.register(async (scope) => {
    // Bodies are the routes' own to read: files of any kind, as they come.
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser('*', (_request, payload, done) => done(null, payload));
    scope.all('/v1/algorithm/*', { schema: { hide: true } }, async (request, reply) => {
      const abort = new AbortController();
      request.raw.on('close', () => reply.raw.writableFinished || abort.abort());
      reply.raw.on('close', () => abort.abort());
      const bare = request.method === 'GET' || request.method === 'HEAD';
      const init = { method: request.method, headers: request.headers as Record<string, string>, signal: abort.signal };
      const body = bare ? {} : { body: Readable.toWeb((request.body as Readable | undefined) ?? Readable.from([])), duplex: 'half' };
      const answer = await algorithm.routes.fetch(new Request(new URL(request.url, 'http://service'), { ...init, ...body } as RequestInit));
      return reply.send(answer);
    });
  });

  const live = new Live(dispatch);
  app.get('/live', { schema: { hide: true } }, (request, reply) => {
    reply.hijack();
    reply.raw.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
    const end = live.follow((data) => reply.raw.write(`data: ${data}\n\n`));
    request.raw.on('close', end);
  });
  await app.register(fastifyStatic, { root: pageFolder });
  return app as unknown as FastifyInstance;
}

function found<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Problem(404, 'not-found', 'Not found', `There is no ${what}.`);
  return value;
}

function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (hasZodFastifySchemaValidationErrors(error)) {
    const detail = error.validation
      .map((issue) => `${issue.instancePath.replace(/^\//, '').replaceAll('/', '.') || 'body'}: ${issue.message}`)
      .join('; ');
    return new Problem(422, 'invalid-request', 'The request is not valid', detail);
  }
  const { statusCode, message } = error as { statusCode?: number; message: string };
  if (statusCode !== undefined && statusCode < 500) return new Problem(statusCode, 'invalid-request', 'The request is not valid', message);
  if (HoldfastError.is(error) && error.retryable)
    return new Problem(503, 'unavailable', 'Try again', 'The database is not available at the moment; nothing was saved.');
  return new Problem(500, 'internal', 'Something went wrong', 'The request was not carried out; the log says why.');
}
