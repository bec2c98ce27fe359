import { Readable } from 'node:stream';
import fastifyStatic from '@fastify/static';
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import { HoldfastError, isConnectionError } from '@holdfast/core';
import fastify, { type FastifyInstance, type FastifyReply } from 'fastify';
import {
  hasZodFastifySchemaValidationErrors,
  jsonSchemaTransform,
  serializerCompiler,
  validatorCompiler,
  type ZodTypeProvider,
} from 'fastify-type-provider-zod';
import type { Algorithm } from '../algorithm.ts';
import type { Dispatch } from '../dispatch.ts';
import { authenticate, tenantOf } from './auth.ts';
import { customerRoutes } from './customer-routes.ts';
import { Live } from './live.ts';
import { operatorRoutes, type RoomControls } from './operator-routes.ts';
import { Problem } from './problem.ts';
import { traceRequests } from './spans.ts';

export interface ServerParts {
  readonly dispatch: Dispatch;
  readonly algorithm: Algorithm;
  /** The built page. */
  readonly pageFolder: string;
  /** What the room shows when it posts events. */
  readonly roomToken: string;
  /** Of a simulated room. */
  readonly room?: RoomControls | undefined;
  /** Ends a process, so that others take over: for the demonstration. */
  readonly crash?: (() => void) | undefined;
  /** Prometheus' text. */
  readonly metrics?: (() => Promise<string>) | undefined;
}

// Attributes of style only: a program's log has colours of its own, and browsers write some into what is being edited.
const policy =
  "default-src 'self'; style-src-attr 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/** The HTTP face. */
export async function createServer(parts: ServerParts): Promise<FastifyInstance> {
  const { dispatch, algorithm } = parts;
  const app = fastify({
    forceCloseConnections: true,
    bodyLimit: 256 * 1024,
    routerOptions: { maxParamLength: 200 },
    // What is wrong with an address itself, no handler of errors hears of.
    frameworkErrors: (error, request, reply) => {
      const status = error.statusCode ?? 400;
      const problem = new Problem(status, 'invalid-request', 'The request is not valid', error.message.slice(0, 200));
      const plain: FastifyReply = reply as unknown as FastifyReply;
      void plain
        .code(status)
        .header('content-type', 'application/problem+json')
        .send(JSON.stringify(problem.body(request.url.slice(0, 200))));
    },
  }).withTypeProvider<ZodTypeProvider>();
  // Bodies are JSON, or refused.
  app.removeContentTypeParser('text/plain');
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'compute-dispatch', version: '1.0.0', description: 'Apply for cloud computers in batches.' },
      components: { securitySchemes: { key: { type: 'http', scheme: 'bearer', description: 'An API key: hf_…' } } },
      security: [{ key: [] }],
    },
    transform: jsonSchemaTransform,
  });
  const problems = (error: unknown, url: string, method: string): Problem => {
    const problem = asProblem(error);
    if (problem.status >= 500) dispatch.logger.error({ err: error, method, url: url.split('?')[0] }, 'a request was not carried out');
    return problem;
  };
  app.setErrorHandler((error, request, reply) => {
    const problem = problems(error, request.url, request.method);
    const retry = problem.status === 503 || problem.status === 429 ? reply.header('retry-after', '1') : reply;
    return retry
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
    if (!reply.hasHeader('content-security-policy')) reply.header('content-security-policy', policy);
    reply.header('x-content-type-options', 'nosniff').header('referrer-policy', 'no-referrer');
  });
  traceRequests(app as unknown as FastifyInstance);
  authenticate(app as unknown as FastifyInstance, { keys: dispatch.keys, tenants: dispatch.tenants, roomToken: parts.roomToken });
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    staticCSP: true,
    // Nobody else's scripts and styles. One style its own script writes; by its hash, no other.
    transformStaticCSP: (header) =>
      header
        .replaceAll(' https:', '')
        .replace("style-src 'self'", "style-src 'self' 'sha256-RL3ie0nH+Lzz2YNqQN83mnU0J1ot4QL7b99vMdIX99w='"),
    uiConfig: { persistAuthorization: false, tryItOutEnabled: true },
  });
  customerRoutes(app as unknown as FastifyInstance, dispatch);
  operatorRoutes(app as unknown as FastifyInstance, dispatch, parts.room);

  const { crash, metrics } = parts;
  app.post('/v1/crash', { schema: { hide: true }, config: { access: 'admin' } }, async (_request, reply) => {
    if (!crash) throw new Problem(404, 'not-found', 'Not found', 'This service is not a demonstration: it does not end itself.');
    setTimeout(crash, 20);
    return reply.code(202).send({ says: 'The worker is killed now, and started again.' });
  });
  if (metrics)
    app.get('/metrics', { schema: { hide: true }, config: { access: 'public' } }, async (_request, reply) =>
      reply.type('text/plain; version=0.0.4').send(await metrics()),
    );
  // Ready: messages come in and go out. Requests are accepted all the same: what they say waits in the outbox.
  app.get('/readyz', { schema: { hide: true }, config: { access: 'public' } }, async (_request, reply) => {
    await dispatch.knex.raw('SELECT 1');
    return reply.status(dispatch.ready ? 200 : 503).send({ status: dispatch.ready ? 'ready' : 'waiting for the broker' });
  });
  // Alive: it answers. A database that is away is no reason to be started again.
  app.get('/healthz', { schema: { hide: true }, config: { access: 'public' } }, async () => ({ status: 'ok' }));
  app.get('/openapi.json', { schema: { hide: true }, config: { access: 'public' } }, async () => app.swagger());

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
      // The tenant is the key's, whatever the request says of it.
      const headers = { ...(request.headers as Record<string, string>), 'x-tenant': tenantOf(request) };
      const init = { method: request.method, headers, signal: abort.signal };
      const body = bare ? {} : { body: Readable.toWeb((request.body as Readable | undefined) ?? Readable.from([])), duplex: 'half' };
      const answer = await algorithm.routes.fetch(new Request(new URL(request.url, 'http://service'), { ...init, ...body } as RequestInit));
      return reply.send(answer);
    });
  });

  const live = new Live(dispatch, parts.room);
  app.get('/v1/live', { schema: { hide: true } }, (request, reply) => {
    const tenant = tenantOf(request);
    reply.hijack();
    reply.raw.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' });
    const end = live.follow({ tenant, admin: request.who?.admin ?? false }, (data) => reply.raw.write(`data: ${data}\n\n`));
    request.raw.on('close', end);
  });
  await app.register(fastifyStatic, { root: parts.pageFolder });
  return app as unknown as FastifyInstance;
}

function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (hasZodFastifySchemaValidationErrors(error)) {
    const detail = error.validation
      .map(
        (issue) => `${issue.instancePath.replace(/^\//, '').replaceAll('/', '.') || (error.validationContext ?? 'body')}: ${issue.message}`,
      )
      .join('; ');
    return new Problem(422, 'invalid-request', 'The request is not valid', detail);
  }
  const { statusCode, message } = error as { statusCode?: number; message: string };
  if (statusCode !== undefined && statusCode < 500) return new Problem(statusCode, 'invalid-request', 'The request is not valid', message);
  if ((HoldfastError.is(error) && error.retryable) || isOutage(error))
    return new Problem(
      503,
      'unavailable',
      'Try again',
      'The database does not answer at the moment. Whether the request was carried out is not known: send it again.',
    );
  return new Problem(500, 'internal', 'Something went wrong', 'The request was not carried out; the log says why.');
}

/** A connection that was lost or could not be had. */
function isOutage(error: unknown): boolean {
  return isConnectionError(error) || (error as { name?: string } | undefined)?.name === 'KnexTimeoutError';
}
