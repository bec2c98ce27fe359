import { type TestDialect, testDialects } from '@holdfast/core/testing';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startService, type TestService } from './service.ts';

interface Schema {
  readonly type?: string | readonly string[];
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly anyOf?: readonly Schema[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly pattern?: string;
  readonly format?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
}

interface Operation {
  readonly method: string;
  readonly path: string;
  readonly summary: string;
  readonly parameters?: readonly { readonly name: string; readonly in: string; readonly required?: boolean; readonly schema: Schema }[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> };
  readonly responses: Readonly<Record<string, { readonly content?: Readonly<Record<string, unknown>> }>>;
}

/** Values that no schema asks for, and that services fall over: at every place where one may stand. */
const hostile: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    '',
    ' ',
    '\u0000',
    '\ud800',
    '💥',
    "' OR 1=1 --",
    '../../etc/passwd',
    '%00',
    '${7*7}',
    '9'.repeat(40),
    -1,
    0,
    1.5,
    1e308,
    2 ** 53,
    true,
    [],
    {},
    '__proto__',
    'constructor',
    'NaN',
    '0x10',
    '1e9',
  ),
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.jsonValue({ maxDepth: 3 }),
  fc.string({ minLength: 2_000, maxLength: 3_000 }),
);

/** Values that fit a schema, as its document says it. */
function fitting(schema: Schema): fc.Arbitrary<unknown> {
  if (schema.const !== undefined) return fc.constant(schema.const);
  if (schema.enum) return fc.constantFrom(...schema.enum);
  if (schema.anyOf) return fc.oneof(...schema.anyOf.map(fitting));
  const type = Array.isArray(schema.type) ? schema.type[0] : schema.type;
  switch (type) {
    case 'integer':
      return fc.integer({ min: Math.max(schema.minimum ?? -1_000, -2_147_483_648), max: Math.min(schema.maximum ?? 1_000, 2_147_483_647) });
    case 'number':
      return fc.double({ min: schema.minimum ?? -1_000, max: schema.maximum ?? 1_000, noNaN: true });
    case 'boolean':
      return fc.boolean();
    case 'null':
      return fc.constant(null);
    case 'array':
      return fc.array(fitting(schema.items ?? {}), {
        minLength: schema.minItems ?? 0,
        maxLength: Math.min(schema.maxItems ?? 3, (schema.minItems ?? 0) + 3),
      });
    case 'object': {
      const fields = Object.fromEntries(Object.entries(schema.properties ?? {}).map(([name, field]) => [name, fitting(field)]));
      return fc.record(fields, { requiredKeys: [...(schema.required ?? [])] });
    }
    case 'string':
      if (schema.format === 'date-time')
        return fc.date({ min: new Date('2020-01-01'), max: new Date('2100-01-01'), noInvalidDate: true }).map((date) => date.toISOString());
      if (schema.pattern) {
        const pattern = new RegExp(schema.pattern, 'u');
        if (!schema.pattern.includes('\\p')) return fc.stringMatching(pattern);
        return fc
          .string({ minLength: 1, maxLength: Math.min(schema.maxLength ?? 30, 30) })
          .filter((text) => pattern.test(text) && text.trim() === text);
      }
      return fc.string({ minLength: schema.minLength ?? 0, maxLength: Math.min(schema.maxLength ?? 30, (schema.minLength ?? 0) + 30) });
    default:
      return fc.jsonValue({ maxDepth: 1 });
  }
}

/** A value that fits, and now and then one that does not, somewhere in it. */
function nearly(schema: Schema): fc.Arbitrary<unknown> {
  const broken = fc.tuple(fitting(schema), hostile, fc.nat()).map(([value, instead, where]) => {
    if (typeof value !== 'object' || value === null) return instead;
    const names = Object.keys(value);
    const name = names[where % Math.max(1, names.length)] ?? 'surplus';
    return Array.isArray(value) ? [...value, instead] : { ...value, [name]: instead };
  });
  return fc.oneof({ weight: 2, arbitrary: fitting(schema) }, { weight: 3, arbitrary: broken }, { weight: 1, arbitrary: hostile });
}

const dialect = testDialects().at(1) ?? (testDialects()[0] as TestDialect);

describe(`every endpoint of compute-dispatch, fuzzed against its document on ${dialect.name}`, () => {
  let service: TestService;
  let operations: Operation[];
  const known: string[] = [];
  beforeAll(async () => {
    service = await startService(dialect, { machines: 40 });
    const { body } = await service.call('GET', '/openapi.json', { as: '' });
    operations = Object.entries(body.paths as Record<string, Record<string, Operation>>).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({ ...operation, method: method.toUpperCase(), path })),
    );
    const order = { businessOrderNo: 'there', packageId: 'standard', count: 3, minimum: 1, applyDurationMinutes: 1 };
    const { id } = (await service.call('POST', '/v1/batches', { body: order })).body;
    const { slots } = (await service.call('GET', `/v1/batches/${id}/slots`)).body;
    known.push(id, ...slots.map(({ applyId }: { applyId: string }) => applyId), 'demo', 'test');
  });
  afterAll(async () => {
    await service?.stop();
  });

  const send = async (
    { method, path, parameters = [] }: Operation,
    values: Readonly<Record<string, unknown>>,
    body: unknown,
    as: string,
  ) => {
    const place = (where: string) => parameters.filter((parameter) => parameter.in === where);
    let url = path;
    for (const { name } of place('path')) url = url.replace(`{${name}}`, encodeURIComponent(textOf(values[name]) || '0'));
    const query = new URLSearchParams(
      place('query').flatMap(({ name }) => (values[name] === undefined ? [] : [[name, textOf(values[name])]])),
    );
    const key = as === 'room' ? 'r'.repeat(32) : service.key(as);
    return fetch(`${service.address}${url}${query.size > 0 ? `?${query}` : ''}`, {
      method,
      headers: {
        authorization: `Bearer ${key}`,
        'x-tenant': 'test',
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    });
  };

  it('answers no 5xx, every refusal as a problem, and nothing that its document does not name', async () => {
    const statuses = new Map<string, number>();
    const runs = Number(process.env.HOLDFAST_CYCLES ?? 1) * 40;
    for (const operation of operations) {
      const schema = operation.requestBody?.content['application/json']?.schema;
      // What a scan or a comparison with the room does is not the request's business; one at a time is enough.
      const few = ['/v1/reconcile', '/v1/invoice-scan', '/v1/invariants'].includes(operation.path) ? 5 : runs;
      const parameters = Object.fromEntries(
        (operation.parameters ?? []).map(({ name, required, schema: own }) => [
          name,
          fc.oneof(nearly(own), fc.constantFrom<unknown>(...known), ...(required ? [] : [fc.constant(undefined)])),
        ]),
      );
      const as = operation.path === '/v1/room/events' ? 'room' : fc.constantFrom('test', 'admin');
      await fc.assert(
        fc.asyncProperty(
          fc.record(parameters),
          schema ? nearly(schema) : fc.constant(undefined),
          typeof as === 'string' ? fc.constant(as) : as,
          async (values, body, who) => {
            const response = await send(operation, values, body, who);
            const text = await response.text();
            const says = `${operation.method} ${operation.path} ${response.status} ${text.slice(0, 300)}`;
            statuses.set(`${response.status}`, (statuses.get(`${response.status}`) ?? 0) + 1);
            expect(response.status, says).toBeLessThan(500);
            const documented = Object.keys(operation.responses);
            const is4xx = response.status >= 400;
            expect(documented.includes(String(response.status)) || (is4xx && documented.includes('4XX')), says).toBe(true);
            if (!is4xx) return;
            expect(response.headers.get('content-type'), says).toMatch(/^application\/problem\+json/);
            expect(JSON.parse(text), says).toMatchObject({
              type: expect.any(String),
              title: expect.any(String),
              status: response.status,
              detail: expect.any(String),
              instance: expect.any(String),
            });
          },
        ),
        { numRuns: few, seed: Number(process.env.HOLDFAST_SEED ?? 1) },
      );
    }
    expect([...statuses.keys()].length).toBeGreaterThan(4);
    expect((await service.call('GET', '/healthz', { as: '' })).status).toBe(200);
  }, 600_000);

  it('documents its problems as application/problem+json, and answers as it documents', async () => {
    for (const { method, path, responses } of operations)
      for (const status of ['4XX', '503'])
        expect(Object.keys(responses[status]?.content ?? {}), `${method} ${path}`).toEqual(['application/problem+json']);
    const { status, body, type } = await service.call('GET', '/v1/batches/1');
    expect([status, type, body]).toEqual([
      404,
      expect.stringMatching(/^application\/problem\+json/),
      {
        type: 'https://holdfast.dev/problems/not-found',
        title: 'Not found',
        status: 404,
        detail: 'There is no batch 1.',
        code: 'not-found',
        instance: '/v1/batches/1',
      },
    ]);
  });

  it('refuses a body above 256 KiB with 413, also when it comes in chunks without a length', async () => {
    const piece = 'x'.repeat(50_000);
    let sent = 0;
    const body = new ReadableStream({
      pull(controller) {
        if ((sent += piece.length) > 400_000) controller.close();
        else controller.enqueue(new TextEncoder().encode(piece));
      },
    });
    const headers = { authorization: `Bearer ${service.key('test')}`, 'content-type': 'application/json' };
    const response = await fetch(`${service.address}/v1/batches`, { method: 'POST', headers, body, duplex: 'half' } as RequestInit);
    expect([response.status, response.headers.get('content-type')]).toEqual([413, expect.stringMatching(/^application\/problem\+json/)]);
    expect(await response.json()).toMatchObject({
      title: 'The request is not valid',
      detail: 'Request body is too large',
      code: 'invalid-request',
    });
  });

  it('refuses wrong and missing keys, other tenants’ ids, oversized bodies, bad cursors, other methods and types', async () => {
    const [batch = '', slot = ''] = known;
    for (const { method, path } of operations) {
      const url = path.replace('{id}', batch).replace('{key}', 'a'.repeat(12));
      for (const authorization of [
        undefined,
        'Bearer',
        'Bearer x',
        'Basic YTpi',
        `Bearer hf_${'a'.repeat(12)}_${'b'.repeat(32)}`,
        `Bearer ${'x'.repeat(8_000)}`,
      ]) {
        const response = await fetch(`${service.address}${url}`, {
          method,
          headers: { ...(authorization ? { authorization } : {}), ...(method === 'GET' ? {} : { 'content-type': 'application/json' }) },
          ...(method === 'GET' || method === 'DELETE' ? {} : { body: '{}' }),
        });
        expect(response.status, `${method} ${path}`).toBe(401);
        expect(response.headers.get('content-type')).toMatch(/problem\+json/);
      }
    }
    for (const path of [
      `/v1/batches/${batch}`,
      `/v1/batches/${batch}/slots`,
      `/v1/batches/${batch}/timeline`,
      `/v1/slots/${slot}`,
      `/v1/slots/${slot}/timeline`,
      `/v1/slots/${slot}/callbacks`,
      `/v1/slots/${slot}/invoices`,
    ]) {
      expect((await service.call('GET', path)).status, path).toBe(200);
      expect((await service.call('GET', path, { as: 'other' })).status, path).toBe(404);
    }
    for (const path of [`/v1/batches/${batch}/cancel`, `/v1/batches/${batch}/release`, `/v1/slots/${slot}/release`])
      expect((await service.call('POST', path, { as: 'other' })).status, path).toBe(404);
    expect((await service.call('POST', `/v1/slots/${slot}/power`, { as: 'other', body: { desired: 'OFF' } })).status).toBe(404);
    expect((await service.call('POST', '/v1/batches', { body: { businessOrderNo: 'x'.repeat(400_000) } })).status).toBe(413);
    for (const query of ['before=x', 'before=-1', 'before=99999999999999999999', 'limit=0', 'limit=101', 'limit=1e9', 'limit=x'])
      expect(await service.call('GET', `/v1/batches?${query}`), query).toMatchObject({
        status: 422,
        type: expect.stringMatching(/problem\+json/),
      });
    expect((await service.call('GET', '/v1/events?after=9223372036854775807')).body).toMatchObject({ events: [] });
    expect((await service.call('GET', '/v1/events?after=9999999999999999999')).status).toBeLessThan(500);
    const plain = await fetch(`${service.address}/v1/batches`, {
      method: 'POST',
      headers: { authorization: `Bearer ${service.key('test')}`, 'content-type': 'text/plain' },
      body: 'x',
    });
    expect(plain.status).toBe(415);
    expect((await service.call('PATCH', '/v1/batches')).status).toBe(404);
    expect((await service.call('GET', '/v1/../v1/batches/%2e%2e')).status).toBeLessThan(500);
  }, 120_000);
});

function textOf(value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  // A lone surrogate can't stand in an address.
  return (text ?? '').toWellFormed().slice(0, 1_000);
}
