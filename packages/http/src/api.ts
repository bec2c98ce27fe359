import {
  boundedCall,
  type Duration,
  describeIssues,
  durationMs,
  guardLogger,
  HoldfastError,
  InvalidArgumentError,
  type Logger,
} from '@holdfast/core';
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { type Context, Hono } from 'hono';
import { MalformedBodyError, NoSuchRouteError, UnauthorizedError } from './errors.ts';
import { type OpenApiDocument, type OpenApiOptions, openApi } from './open-api.ts';
import type { Operation } from './operation.ts';
import { Problems, type ProblemsOptions } from './problem.ts';
import { announcesBody, bodyChunks, defaultMaxBodyBytes, readBody } from './read-body.ts';

/** A request to an operation, and who sent it. */
export interface Call<Caller> {
  readonly request: Request;
  /** As `authenticate` returned it. */
  readonly caller: Caller;
  /** A parameter of the path, decoded. `''` for a name that the path does not have. */
  param(name: string): string;
  /** A parameter of the query, decoded. */
  query(name: string): string | undefined;
  /** A header of the request; names are case-insensitive. */
  header(name: string): string | undefined;
  /**
   * The JSON body, read up to the operation's limit and parsed by the schema. An absent body counts as `{}`.
   * @throws BodyTooLargeError, MalformedBodyError
   */
  json<Body>(schema: StandardSchemaV1<unknown, Body>): Promise<Body>;
  /** The bytes of the body as they arrive, up to the operation's `maxBodyBytes`; without that limit the handler has to bound them. */
  content(): AsyncIterable<Uint8Array>;
}

/** Answers one operation. What it throws is answered as a problem. */
export type Handler<Caller> = (call: Call<Caller>) => Response | Promise<Response>;

/** An API: its operations, who may call them, and how its errors are answered. */
export interface ApiOptions<Id extends string, SchemaName extends string, Caller>
  extends Omit<OpenApiOptions<SchemaName>, 'operations'>,
    ProblemsOptions {
  readonly operations: readonly Operation<Id, SchemaName>[];
  /** A handler for each operation, by its id. */
  readonly handlers: Readonly<Record<Id, Handler<Caller>>>;
  /**
   * The caller, by what the request carries. `undefined` and a thrown error are answered with 401. A promise is waited for up to `callTimeout`:
   * then the request is answered with 503 `call-timeout`, and `signal` aborts.
   */
  readonly authenticate: (request: Request, signal: AbortSignal) => Caller | undefined | Promise<Caller | undefined>;
  /** How long the promise of `authenticate` is waited for. Default 10 s. */
  readonly callTimeout?: Duration;
  /** The largest JSON body in bytes; a larger one is refused with 413. An operation can have its own limit. Default 1 MiB. */
  readonly maxBodyBytes?: number;
  /** Errors that are answered with 500 are logged here. */
  readonly logger?: Logger;
}

/** An API as a fetch handler, for any framework, or for `node:http` through an adapter. */
export interface Api {
  /** Answers a request. Never rejects. */
  readonly fetch: (request: Request) => Promise<Response>;
  /** The OpenAPI document, which is also served at `/openapi.json`. */
  readonly document: OpenApiDocument;
}

/** Served for every API, below the same authentication as its operations. */
const documentOperation: Operation<'openapi', never> = {
  id: 'openapi',
  method: 'get',
  path: '/openapi.json',
  summary: 'This document',
};

/**
 * Serves operations over HTTP. Whatever goes wrong is answered as a problem (RFC 9457), a path without an operation with 404.
 * @throws InvalidArgumentError
 */
export function createApi<Id extends string, SchemaName extends string, Caller>(options: ApiOptions<Id, SchemaName, Caller>): Api {
  const { handlers, basePath = '', maxBodyBytes = defaultMaxBodyBytes } = options;
  const logger = guardLogger(options.logger);
  if (!(maxBodyBytes > 0)) throw new InvalidArgumentError(`maxBodyBytes is ${maxBodyBytes}; give a number of bytes above 0.`);
  const operations: readonly Operation<string, SchemaName>[] = [...options.operations, documentOperation];
  const document = openApi({ ...options, operations });
  const problems = new Problems(options);
  const handlerOf = (id: string): Handler<Caller> => (Object.hasOwn(handlers, id) ? handlers[id as Id] : () => Response.json(document));
  const app = new Hono().basePath(basePath);

  const callMs = durationMs(options.callTimeout ?? '10s', 'callTimeout');
  if (!(callMs > 0))
    throw new InvalidArgumentError(`callTimeout is ${String(options.callTimeout)}; give a duration above 0, such as '10s'.`);

  const authenticated = async (request: Request): Promise<Caller | undefined> => {
    try {
      return await boundedCall((signal) => options.authenticate(request, signal), { name: 'authenticate', ms: callMs });
    } catch (err) {
      if (!HoldfastError.is(err, 'call-timeout')) return undefined;
      logger.warn(
        { err, path: new URL(request.url).pathname, method: request.method },
        'who sent a request could not be found out in time',
      );
      throw err;
    }
  };
  /** Runs a handler, and answers what it throws. */
  const answered = async (c: Context, answer: () => Response | Promise<Response>): Promise<Response> => {
    const { method, path } = c.req;
    try {
      const response: unknown = await answer();
      if (response instanceof Response) return response;
      throw new TypeError(`The handler of ${method} ${path} returned ${String(response)}; it must return a Response.`);
    } catch (error) {
      const response = problems.response(error, path);
      if (response.status === 500) logger.error({ err: error, path, method }, 'a request failed');
      return response;
    }
  };

  for (const operation of operations) {
    const handler = handlerOf(operation.id);
    app.on(operation.method.toUpperCase(), operation.path.replaceAll(/\{(\w+)\}/g, ':$1'), async (c) => {
      const request = c.req.raw;
      const body = new Body(request);
      let response = await answered(c, async () => {
        const caller = await authenticated(request);
        if (caller === undefined) throw new UnauthorizedError('The request carries no valid credentials. Sign in and send it again.');
        return handler({
          request,
          caller,
          param: (name) => c.req.param(name) ?? '',
          query: (name) => c.req.query(name),
          header: (name) => c.req.header(name),
          json: (schema) => body.json(schema, operation.maxBodyBytes ?? maxBodyBytes, `${basePath}/openapi.json`),
          content: () => body.chunks(operation.maxBodyBytes ?? Number.POSITIVE_INFINITY),
        });
      });
      // Nobody reads the body of an answer to HEAD, so a file or subscription behind it would stay open.
      if (request.method === 'HEAD') {
        await response.body?.cancel().catch(() => undefined);
        response = new Response(null, response);
      }
      return body.unread ? closing(response) : response;
    });
  }
  app.notFound((c) =>
    answered(c, () => {
      throw new NoSuchRouteError(`There is nothing at ${c.req.method} ${c.req.path}.`);
    }),
  );
  return { fetch: async (request) => app.fetch(request), document };
}

/** The body of a request, and whether it was read to its end. */
class Body {
  readonly #request: Request;
  #read = false;

  constructor(request: Request) {
    this.#request = request;
  }

  get unread(): boolean {
    return !this.#read && announcesBody(this.#request);
  }

  async json<T>(schema: StandardSchemaV1<unknown, T>, maxBytes: number, documentPath: string): Promise<T> {
    const text = new TextDecoder().decode(await readBody(this.#request, maxBytes));
    this.#read = true;
    let json: unknown;
    try {
      json = text === '' ? {} : JSON.parse(text);
    } catch (error) {
      throw new MalformedBodyError(`The body is not valid JSON: ${(error as Error).message}.`, error);
    }
    const result = await schema['~standard'].validate(json);
    if (result.issues === undefined) return result.value;
    throw new MalformedBodyError(`The body does not match its schema, see ${documentPath}: ${describeIssues(result.issues)}.`);
  }

  async *chunks(maxBytes: number): AsyncGenerator<Uint8Array> {
    yield* bodyChunks(this.#request, maxBytes);
    this.#read = true;
  }
}

/** Unread bytes of a body precede the next request on the connection (RFC 9112, 9.3), so the connection is closed. */
function closing(response: Response): Response {
  const answer = new Response(response.body, response);
  answer.headers.set('connection', 'close');
  return answer;
}
