import type { StandardJSONSchemaV1 } from '@standard-schema/spec';
import { isMediaType, type Operation } from './operation.ts';
import { problemMediaType } from './problem.ts';
import { readablePatterns } from './readable-patterns.ts';

/** Contents of an OpenAPI document. */
export interface OpenApiOptions<SchemaName extends string = string> {
  readonly info: { readonly title: string; readonly version: string; readonly description?: string };
  readonly operations: readonly Operation<string, SchemaName>[];
  /** The JSON bodies of requests and responses by name: any Standard Schema that can be written as JSON Schema, as zod's can. */
  readonly schemas: Readonly<Record<SchemaName, StandardJSONSchemaV1>>;
  /** JSON Schemas of further members that problem documents of this API have. Default: none. */
  readonly problemMembers?: Readonly<Record<string, object>>;
  /** The path before all operations. Default none. */
  readonly basePath?: string;
}

/** An OpenAPI document. */
export type OpenApiDocument = Readonly<Record<string, unknown>>;

const target = { target: 'draft-2020-12' } as const;

/**
 * Writes the OpenAPI 3.1 document of an API. Every operation may answer with a problem, as `application/problem+json`. Patterns that most tools
 * can't read, such as `\p{L}`, are left out of the schemas.
 */
export function openApi<SchemaName extends string>(options: OpenApiOptions<SchemaName>): OpenApiDocument {
  const { info, operations, schemas, problemMembers = {}, basePath } = options;
  const paths: Record<string, Record<string, unknown>> = {};
  for (const operation of operations) paths[operation.path] = { ...paths[operation.path], [operation.method]: described(operation) };
  // A body is described as it is sent, a response as it is answered: they differ where a schema has defaults or converts.
  const sent = new Set<string>(operations.flatMap(({ body }) => (body === undefined ? [] : [body])));
  const components = Object.entries<StandardJSONSchemaV1>(schemas).map(([name, { '~standard': standard }]) => [
    name,
    readablePatterns(sent.has(name) ? standard.jsonSchema.input(target) : standard.jsonSchema.output(target)),
  ]);
  return {
    openapi: '3.1.0',
    info,
    servers: [{ url: basePath || '/' }],
    paths,
    components: { schemas: { ...Object.fromEntries(components), problem: problemSchema(problemMembers) } },
  };
}

function described(operation: Operation): Readonly<Record<string, unknown>> {
  const parameters = parametersOf(operation);
  return {
    operationId: operation.id,
    summary: operation.summary,
    ...(parameters.length > 0 ? { parameters } : {}),
    ...(operation.body === undefined
      ? {}
      : { requestBody: { required: !operation.bodyOptional, content: contentOf(operation.body, { type: 'string', format: 'binary' }) } }),
    responses: {
      [operation.status ?? 200]: {
        description: operation.summary,
        ...(operation.response === undefined ? {} : { content: contentOf(operation.response, { type: 'string' }) }),
      },
      default: { description: 'A problem', content: { [problemMediaType]: { schema: reference('problem') } } },
    },
  };
}

function parametersOf({ path, query = {}, requiredQuery = {}, headers = {} }: Operation): readonly object[] {
  const schema = { type: 'string' };
  const inQuery = (parameters: Readonly<Record<string, string>>, required: boolean): readonly object[] =>
    Object.entries(parameters).map(([name, description]) => ({ name, in: 'query', required, description, schema }));
  return [
    ...[...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({ name, in: 'path', required: true, schema })),
    ...inQuery(requiredQuery, true),
    ...inQuery(query, false),
    ...Object.entries(headers).map(([name, description]) => ({ name, in: 'header', description, schema })),
  ];
}

function contentOf(content: string, bytes: object): Readonly<Record<string, unknown>> {
  return isMediaType(content) ? { [content]: { schema: bytes } } : { 'application/json': { schema: reference(content) } };
}

function reference(name: string): object {
  return { $ref: `#/components/schemas/${name}` };
}

function problemSchema(members: Readonly<Record<string, object>>): object {
  const text = { type: 'string' };
  return {
    type: 'object',
    required: ['type', 'title', 'status', 'detail', 'code', 'instance'],
    properties: { type: text, title: text, status: { type: 'integer' }, detail: text, code: text, instance: text, ...members },
  };
}
