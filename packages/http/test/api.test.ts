import { HoldfastError, silentLogger } from '@holdfast/core';
import { afterEach, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { type ApiOptions, createApi, type Handler, type Operation, openApi } from '../src/index.ts';
import { serve, talk } from './node-server.ts';

type Id = 'getThing' | 'putThing' | 'upload' | 'events';

const operations: readonly Operation<Id, 'thing' | 'change'>[] = [
  { id: 'getThing', method: 'get', path: '/things/{thingId}', summary: 'A thing', query: { part: 'Which part.' }, response: 'thing' },
  { id: 'putThing', method: 'put', path: '/things/{thingId}', summary: 'Change a thing', body: 'change', response: 'thing', status: 202 },
  {
    id: 'upload',
    method: 'post',
    path: '/things/{thingId}/file',
    summary: 'Upload a file',
    requiredQuery: { path: 'Of the file.' },
    headers: { 'if-match': 'Its version.' },
    body: 'application/octet-stream',
    maxBodyBytes: 1_000,
  },
  { id: 'events', method: 'get', path: '/events', summary: 'Events', response: 'text/event-stream' },
];

const schemas = {
  thing: z.object({ id: z.string(), part: z.string().optional() }),
  change: z.object({ name: z.string().max(100_000), size: z.number().default(1) }),
};

const handlers: Readonly<Record<Id, Handler<string>>> = {
  getThing: (call) => Response.json({ id: call.param('thingId'), part: call.query('part') }),
  putThing: async (call) => Response.json({ ...(await call.json(schemas.change)), by: call.caller }, { status: 202 }),
  upload: async (call) => {
    let bytes = 0;
    for await (const chunk of call.content()) bytes += chunk.length;
    return Response.json({ bytes });
  },
  events: () => new Response('data: x\n\n'),
};

function api(options: Partial<ApiOptions<Id, 'thing' | 'change', string>> = {}) {
  return createApi({
    info: { title: 'Things', version: '1' },
    operations,
    handlers,
    schemas,
    statuses: { taken: [409, 'Taken'], away: [503, 'Away', 'It is away.'] },
    authenticate: (request) => request.headers.get('authorization') ?? undefined,
    logger: silentLogger,
    basePath: '/v1',
    ...options,
  });
}

async function ask(
  { fetch }: { readonly fetch: (request: Request) => Promise<Response> },
  method: string,
  path: string,
  init: { readonly body?: string; readonly headers?: Record<string, string> } = {},
) {
  const headers = { authorization: 'alice', ...init.headers };
  const response = await fetch(
    new Request(`http://x/v1${path}`, { method, headers, ...(init.body === undefined ? {} : { body: init.body }) }),
  );
  const text = await response.text();
  const type = response.headers.get('content-type') ?? '';
  return { status: response.status, type, headers: response.headers, text, json: type.includes('json') ? JSON.parse(text) : undefined };
}

describe('an API', () => {
  it('hands parameters, the caller and the parsed body to the handler', async () => {
    expect((await ask(api(), 'GET', '/things/a%20b?part=%C3%A9')).json).toEqual({ id: 'a b', part: 'é' });
    expect(await ask(api(), 'PUT', '/things/1', { body: '{"name":"n"}' })).toMatchObject({
      status: 202,
      json: { name: 'n', size: 1, by: 'alice' },
    });
  });

  it('answers what goes wrong as a problem, by the table of statuses', async () => {
    const failing = (error: unknown) =>
      api({
        handlers: {
          ...handlers,
          getThing: () => {
            throw error;
          },
        },
      });
    const coded = (code: string) => failing(new HoldfastError('The name is taken.', { code }));
    expect(await ask(coded('taken'), 'GET', '/things/1')).toMatchObject({
      status: 409,
      type: 'application/problem+json',
      json: {
        type: 'https://holdfast.dev/errors/taken',
        title: 'Taken',
        status: 409,
        detail: 'The name is taken.',
        code: 'taken',
        instance: '/v1/things/1',
      },
    });
    const away = await ask(coded('away'), 'GET', '/things/1');
    expect([away.json.detail, away.headers.get('retry-after')]).toEqual(['It is away.', '5']);
    const secret = /password|things is broken/;
    for (const error of [
      new Error('password=x'),
      'things is broken',
      coded,
      undefined,
      new HoldfastError('password=x', { code: 'constructor' }),
    ]) {
      const { status, text, json } = await ask(failing(error), 'GET', '/things/1');
      expect([status, json.title]).toEqual([500, 'Something went wrong here']);
      expect(text).not.toMatch(secret);
    }
    expect(await ask(api(), 'GET', '/nowhere')).toMatchObject({
      status: 404,
      json: { code: 'not-found', detail: 'There is nothing at GET /v1/nowhere.' },
    });
  });

  it.each(['GET', 'HEAD'])('answers 500 to %s where a handler returns nothing', async (method) => {
    const errors: unknown[] = [];
    const logger = { ...silentLogger, error: ({ err }: { readonly err?: unknown }) => void errors.push(err) };
    const broken = api({ handlers: { ...handlers, getThing: () => undefined as never }, logger });
    const response = await broken.fetch(new Request('http://h/v1/things/1', { method, headers: { authorization: 'a' } }));
    expect([response.status, response.headers.get('content-type')]).toEqual([500, 'application/problem+json']);
    expect(errors).toMatchObject([{ message: expect.stringContaining('must return a Response') }]);
  });

  it('logs what it answers with 500, and nothing else', async () => {
    const logged: object[] = [];
    const logger = { ...silentLogger, error: (fields: object) => logged.push(fields) };
    const failing = api({ logger, handlers: { ...handlers, getThing: () => Promise.reject(new Error('broken')) } });
    await ask(failing, 'GET', '/nowhere');
    await ask(failing, 'PUT', '/things/1', { body: '{' });
    expect(logged).toEqual([]);
    await ask(failing, 'GET', '/things/1');
    expect(logged).toMatchObject([{ err: { message: 'broken' }, path: '/v1/things/1', method: 'GET' }]);
  });

  it.each<[string, ApiOptions<Id, never, string>['authenticate']]>([
    ['returns nothing', () => undefined],
    ['rejects', () => Promise.reject(new Error('no'))],
    [
      'throws',
      () => {
        throw new Error('no');
      },
    ],
  ])('answers 401 where authenticate %s', async (_case, authenticate) => {
    for (const path of ['/things/1', '/openapi.json'])
      expect(await ask(api({ authenticate }), 'GET', path)).toMatchObject({
        status: 401,
        json: { title: 'Unauthorized', code: 'unauthorized' },
      });
  });

  it('answers 503 where authenticate does not answer in time, tells it so, and says so in the log', async () => {
    const warned: object[] = [];
    const reasons: unknown[] = [];
    const hanging = api({
      callTimeout: 20,
      logger: { ...silentLogger, warn: (fields: object) => void warned.push(fields) },
      authenticate: (_request, signal) => {
        signal.addEventListener('abort', () => reasons.push(signal.reason));
        return new Promise(() => undefined);
      },
    });
    for (const path of ['/things/1', '/openapi.json']) {
      const { status, json, headers } = await ask(hanging, 'GET', path);
      expect([status, json.code, headers.get('content-type'), headers.get('retry-after')]).toEqual([
        503,
        'call-timeout',
        'application/problem+json',
        '5',
      ]);
      expect(json.detail).toContain('Send the request again');
    }
    expect(reasons).toMatchObject([{ code: 'call-timeout' }, { code: 'call-timeout' }]);
    expect(warned).toMatchObject([{ path: '/v1/things/1', method: 'GET' }, { path: '/v1/openapi.json' }]);
    expect(() => api({ callTimeout: 0 })).toThrow('callTimeout is 0');
  });

  it.each([
    ['no JSON', '{', 'not valid JSON'],
    ['another shape', '{"name":1}', 'name'],
    ['nothing, where a member is needed', '', 'name'],
  ])('refuses a body that is %s', async (_case, body, says) => {
    const { status, json } = await ask(api(), 'PUT', '/things/1', { body });
    expect([status, json.code]).toEqual([400, 'malformed-body']);
    expect(json.detail).toContain(says);
  });

  it('gives up what stands behind the answer to HEAD, whose body nobody reads', async () => {
    let cancelled = false;
    const cancel = (): void => {
      cancelled = true;
    };
    const streaming = api({
      handlers: { ...handlers, getThing: () => new Response(new ReadableStream({ cancel }), { headers: { etag: '"1"' } }) },
    });
    const { status, text, headers } = await ask(streaming, 'HEAD', '/things/1');
    expect([status, text, headers.get('etag'), cancelled]).toEqual([200, '', '"1"', true]);
  });
});

describe('the limit of a body', () => {
  const closers: (() => void)[] = [];
  afterEach(() => {
    for (const close of closers.splice(0)) close();
  });

  it('is 1 MiB for JSON, or as the API or the operation says', async () => {
    const body = (bytes: number) => JSON.stringify({ name: 'x' }).padEnd(bytes, ' ');
    const statusOf = async (bytes: number, maxBodyBytes?: number) =>
      (await ask(api(maxBodyBytes === undefined ? {} : { maxBodyBytes }), 'PUT', '/things/1', { body: body(bytes) })).status;
    expect([await statusOf(1_048_576), await statusOf(1_048_577)]).toEqual([202, 413]);
    expect([await statusOf(500, 500), await statusOf(501, 500)]).toEqual([202, 413]);
    expect((await ask(api(), 'POST', '/things/1/file?path=a', { body: 'x'.repeat(1_000) })).json).toEqual({ bytes: 1_000 });
    expect((await ask(api(), 'POST', '/things/1/file?path=a', { body: 'x'.repeat(1_001) })).json).toMatchObject({
      status: 413,
      code: 'body-too-large',
    });
    expect(() => api({ maxBodyBytes: 0 })).toThrow('maxBodyBytes is 0');
  });

  const head = 'PUT /v1/things/1 HTTP/1.1\r\nhost: x\r\nauthorization: alice\r\n';

  it('is answered with 413 before anything is read, if the length is declared', async () => {
    const { port, close } = await serve(api().fetch);
    closers.push(close);
    const { answer } = await talk(port, `${head}content-length: 1048577\r\n\r\n`);
    expect(await answer).toMatch(/^HTTP\/1\.1 413 [\s\S]*The body has 1048577 bytes; the limit is 1048576\./);
  });

  it('is answered with 413 as soon as a chunked body passes it; the rest is not read, and the connection ends', async () => {
    const { port, close, server } = await serve(api({ maxBodyBytes: 10_000 }).fetch);
    closers.push(close);
    let read = 0;
    server.on('connection', (socket) => socket.on('close', () => (read = socket.bytesRead)));
    const chunk = `1000\r\n${'x'.repeat(4_096)}\r\n`;
    const { socket, answer } = await talk(port, `${head}transfer-encoding: chunked\r\n\r\n${chunk.repeat(4)}`);
    expect(await answer).toMatch(/^HTTP\/1\.1 413 [\s\S]*application\/problem\+json[\s\S]*more than 10000 bytes/);
    expect(socket.destroyed).toBe(true);
    await expect.poll(() => read).toBeGreaterThan(10_000);
    expect(read).toBeLessThan(20_000);
  });

  it('lets a handler refuse an upload midway, and the client still gets the answer', async () => {
    const refusing = api({
      handlers: {
        ...handlers,
        putThing: async (call) => {
          for await (const _ of call.content()) throw new HoldfastError('Enough.', { code: 'taken' });
          return Response.json({});
        },
      },
    });
    const { port, close } = await serve(refusing.fetch);
    closers.push(close);
    const { answer } = await talk(port, `${head}content-length: 1000000\r\n\r\n${'x'.repeat(5_000)}`);
    expect(await answer).toMatch(/^HTTP\/1\.1 409 [\s\S]*connection: close[\s\S]*Enough\./i);
  });

  it('keeps the connection of a request whose body was read, and of one without a body', async () => {
    const { port, close } = await serve(api().fetch);
    closers.push(close);
    const get = 'GET /v1/things/2 HTTP/1.1\r\nhost: x\r\nauthorization: alice\r\n';
    const post = 'POST /v1/things/1/file?path=a HTTP/1.1\r\nhost: x\r\nauthorization: alice\r\ncontent-length: 0\r\n\r\n';
    const { answer } = await talk(port, `${head}content-length: 12\r\n\r\n{"name":"n"}${post}${get}connection: close\r\n\r\n`);
    expect((await answer).match(/^HTTP\/1\.1 \d+/gm)).toEqual(['HTTP/1.1 202', 'HTTP/1.1 200', 'HTTP/1.1 200']);
  });

  it('answers a body that is cut off with 400, and does not log it as a fault of the service', async () => {
    const logged: object[] = [];
    const cut = new ReadableStream({
      pull(controller) {
        controller.error(new Error('connection reset'));
      },
    });
    const { fetch } = api({ logger: { ...silentLogger, error: (fields: object) => logged.push(fields) } });
    const init = { method: 'PUT', headers: { authorization: 'a' }, body: cut, duplex: 'half' } as RequestInit;
    const response = await fetch(new Request('http://x/v1/things/1', init));
    expect([response.status, logged]).toEqual([400, []]);
  });
});

describe('the document of an API', () => {
  it('names every operation, and its references lead somewhere', async () => {
    const { json } = await ask(api({ problemMembers: { runId: { type: 'string' } } }), 'GET', '/openapi.json');
    const described = Object.values(json.paths as Record<string, Record<string, { operationId: string; responses: object }>>).flatMap(
      (path) => Object.values(path),
    );
    expect(described.map(({ operationId }) => operationId)).toEqual([...operations.map(({ id }) => id), 'openapi']);
    for (const [, name] of JSON.stringify(json).matchAll(/"#\/components\/schemas\/(\w+)"/g))
      expect(json.components.schemas[name ?? ''], name).toBeDefined();
    expect(json.components.schemas.problem.properties).toHaveProperty('runId');
    expect(json.servers).toEqual([{ url: '/v1' }]);
  });

  it('says that problems are application/problem+json', () => {
    const { paths } = api().document as { paths: Record<string, Record<string, { responses: { default: { content: object } } }>> };
    for (const path of Object.values(paths))
      for (const { responses } of Object.values(path)) expect(Object.keys(responses.default.content)).toEqual(['application/problem+json']);
  });

  it('has only patterns that tools can read without flags', () => {
    const property = { type: 'string', pattern: '^[a-z]+$' };
    const schema = {
      type: 'object',
      properties: {
        letters: { type: 'string', pattern: '^\\p{L}+$', maxLength: 7 },
        emoji: {
          anyOf: [
            { type: 'string', pattern: '^[\\u{1F600}-\\u{1F64F}]$' },
            { type: 'string', pattern: '^(' },
          ],
        },
        path: { type: 'string', pattern: '^\\\\p{1}$' },
        pattern: property,
        named: { type: 'object', default: { pattern: '\\p{L}' } },
      },
    };
    const standard = { version: 1 as const, vendor: 'test', jsonSchema: { input: () => schema, output: () => schema } };
    const { components } = openApi({
      info: { title: 't', version: '1' },
      operations: [{ id: 'a', method: 'get', path: '/', summary: 's', response: 'thing' }],
      schemas: { thing: { '~standard': standard } },
    }) as { components: { schemas: { thing: unknown } } };
    expect(components.schemas.thing).toEqual({
      type: 'object',
      properties: {
        letters: { type: 'string', maxLength: 7 },
        emoji: { anyOf: [{ type: 'string' }, { type: 'string' }] },
        path: { type: 'string', pattern: '^\\\\p{1}$' },
        pattern: property,
        named: { type: 'object', default: { pattern: '\\p{L}' } },
      },
    });
  });

  it('describes parameters, bytes, and a body as it is sent', () => {
    // biome-ignore lint/suspicious/noExplicitAny: it is a document
    const { paths, components } = api().document as any;
    expect(paths['/things/{thingId}/file'].post).toMatchObject({
      parameters: [
        { name: 'thingId', in: 'path', required: true },
        { name: 'path', in: 'query', required: true },
        { name: 'if-match', in: 'header' },
      ],
      requestBody: { required: true, content: { 'application/octet-stream': { schema: { format: 'binary' } } } },
    });
    expect(paths['/things/{thingId}'].put.responses[202].content).toHaveProperty('application/json');
    expect(components.schemas.change.required).toEqual(['name']);
  });
});
