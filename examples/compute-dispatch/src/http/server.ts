import { Readable } from 'node:stream';
import fastifyStatic from '@fastify/static';
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import fastify, { type FastifyInstance, type FastifyReply } from 'fastify';
import { jsonSchemaTransform, serializerCompiler, validatorCompiler, type ZodTypeProvider } from 'fastify-type-provider-zod';
import type { Algorithm } from '../algorithm.ts';
import type { Dispatch } from '../dispatch.ts';
import { DispatchError } from '../errors.ts';
import type { RoomControls } from '../room/room-controls.ts';
import { authenticate, tenantOf } from './auth.ts';
import { customerRoutes } from './customer-routes.ts';
import { jsonBodies, maxBodyBytes } from './json-bodies.ts';
import { Live } from './live.ts';
import { operatorRoutes } from './operator-routes.ts';
import { problemOf, RequestError } from './problem.ts';
import { sendLatest } from './send-latest.ts';
import { traceRequests } from './spans.ts';

export interface ServerParts {
  readonly dispatch: Dispatch;
  readonly algorithm: Algorithm;
  /** The built page. */
  readonly pageFolder: string;
  /** The bearer token with which the room posts events. */
  readonly roomToken: string;
  /** The controls of a simulated room. */
  readonly room?: RoomControls | undefined;
  /** Kills a process of the demonstration, so that others take over. */
  readonly crash?: (() => void) | undefined;
  /** The metrics in the text format of Prometheus. */
  readonly metrics?: (() => Promise<string>) | undefined;
}

// Inline style attributes are allowed: the log of a program has colours, and browsers write styles into edited text.
const policy =
  "default-src 'self'; style-src-attr 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/** Creates the HTTP server: API, document, page, live view. */
export async function createServer(parts: ServerParts): Promise<FastifyInstance> {
  const { dispatch, algorithm } = parts;
  const app = fastify({
    forceCloseConnections: true,
    bodyLimit: maxBodyBytes,
    routerOptions: { maxParamLength: 200 },
    // Errors of URLs that Fastify cannot read do not reach the error handler.
    frameworkErrors: (error, request, reply) => {
      const refused = new RequestError('invalid-request', error.message.slice(0, 200), error.statusCode ?? 400);
      void refuse(reply as unknown as FastifyReply, refused, request.url.slice(0, 200));
    },
  }).withTypeProvider<ZodTypeProvider>();
  jsonBodies(app as unknown as FastifyInstance);
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
  app.setErrorHandler((error, request, reply) => {
    const answer = refuse(reply as unknown as FastifyReply, error, request.url);
    if (answer.statusCode >= 500)
      dispatch.logger.error({ err: error, method: request.method, url: request.url.split('?')[0] }, 'a request failed');
    return answer;
  });
  app.setNotFoundHandler((request, reply) => {
    const missing = new DispatchError('not-found', `There is nothing at ${request.method} ${request.url.split('?')[0]}.`);
    return refuse(reply as unknown as FastifyReply, missing, request.url);
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
    // No scripts or styles of other hosts. The UI's script writes one inline style, which is allowed by its hash.
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
    if (!crash) throw new DispatchError('not-found', 'This service is not a demonstration: it does not end itself.');
    setTimeout(crash, 20);
    return reply.code(202).send({ says: 'The worker is killed now, and started again.' });
  });
  if (metrics)
    app.get('/metrics', { schema: { hide: true }, config: { access: 'public' } }, async (_request, reply) =>
      reply.type('text/plain; version=0.0.4').send(await metrics()),
    );
  // Ready: messages are consumed and published. Requests are accepted in any case: their messages wait in the outbox.
  app.get('/readyz', { schema: { hide: true }, config: { access: 'public' } }, async (_request, reply) => {
    await dispatch.knex.raw('SELECT 1');
    return reply.status(dispatch.ready ? 200 : 503).send({ status: dispatch.ready ? 'ready' : 'waiting for the broker' });
  });
  // Alive: the process answers. An unavailable database is not a reason to restart it.
  app.get('/healthz', { schema: { hide: true }, config: { access: 'public' } }, async () => ({ status: 'ok' }));
  app.get('/openapi.json', { schema: { hide: true }, config: { access: 'public' } }, async () => app.swagger());

  app.get('/v1/algorithm/about', { schema: { hide: true } }, async () => ({
    languages: algorithm.languages.map(({ name, title, interpreter }) => ({ name, title: title ?? name, interpreter })),
    where: algorithm.where,
    ...(algorithm.problem === undefined ? {} : { problem: algorithm.problem }),
  }));
  await app.register(async (scope) => {
    // The routes read bodies themselves, up to their own limits: files of any type, as streams.
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser('*', (_request, payload, done) => done(null, payload));
    scope.all('/v1/algorithm/*', { schema: { hide: true } }, async (request, reply) => {
      const abort = new AbortController();
      request.raw.on('close', () => reply.raw.writableFinished || abort.abort());
      reply.raw.on('close', () => abort.abort());
      const bare = request.method === 'GET' || request.method === 'HEAD';
      // The tenant is the one of the API key, whatever the request says.
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
    const send = sendLatest(reply.raw);
    const end = live.follow({ tenant, admin: request.who?.admin ?? false }, (data) => send(`data: ${data}\n\n`));
    request.raw.on('close', end);
  });
  await app.register(fastifyStatic, { root: parts.pageFolder });
  return app as unknown as FastifyInstance;
}

/** Answers with a problem. */
function refuse(reply: FastifyReply, error: unknown, instance: string): FastifyReply {
  const { document, headers } = problemOf(error, instance);
  return reply.code(document.status).headers(headers).send(JSON.stringify(document));
}
