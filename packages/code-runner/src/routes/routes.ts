import { Readable } from 'node:stream';
import { errorPage, HoldfastError, type Logger } from '@holdfast/core';
import { type Context, Hono } from 'hono';
import type { CodeRunner } from '../code-runner.ts';
import type { Submit } from '../runs/runs.ts';
import { eventJson, eventStream } from './event-stream.ts';
import { type OperationId, openApi, operations } from './openapi.ts';
import { problemOf, problemResponse } from './problem.ts';
import { type Bodies, bodies } from './schemas.ts';

/** Who asks, and where the paths begin. */
export interface RoutesOptions {
  /** Who asks, by what the request carries; what it throws or a missing name is answered with 401. */
  readonly actor: (request: Request) => string | undefined | Promise<string | undefined>;
  /** What comes before the paths, for example `/v1/runner`. Default none. */
  readonly basePath?: string;
}

/** Routes as a fetch handler, for any framework or `node:http` through an adapter. */
export interface Routes {
  /** Answers a request. */
  readonly fetch: (request: Request) => Promise<Response>;
  /** The OpenAPI document, also at `/openapi.json`. */
  readonly document: Readonly<Record<string, unknown>>;
}

class MalformedBodyError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'malformed-body' });
  }
}

type Handler = (c: Context, as: { readonly actor: string }) => Promise<Response>;

/** REST and server-sent events over a runner. */
export function createRoutes(runner: CodeRunner, logger: Logger, options: RoutesOptions): Routes {
  const { tasks, files, runs } = runner;
  const basePath = options.basePath ?? '';
  const document = openApi(basePath);
  const param = (c: Context, name: string): string => c.req.param(name) ?? '';
  const page = (c: Context): { readonly before?: string; readonly limit?: number } => {
    const [before, limit] = [c.req.query('before'), Number(c.req.query('limit'))];
    return { ...(before === undefined ? {} : { before }), ...(limit > 0 ? { limit } : {}) };
  };
  const handlers: Readonly<Record<OperationId, Handler>> = {
    status: async (c) => c.json(await runner.status()),
    languages: async (c) =>
      c.json({
        languages: [...runner.languages.values()].map(({ name, title, main }) => ({ name, title: title ?? name, main })),
        pools: [...runner.pools.values()].map(({ name, slots, limits }) => ({ name, slots, limits })),
      }),
    listTasks: async (c, as) => c.json({ tasks: await tasks.list(as, page(c)) }),
    createTask: async (c, as) => {
      const task = await tasks.create({ ...(await body(c, 'newTask')), ...as } as never);
      return c.json(task, 201, { location: `${basePath}/tasks/${task.id}` });
    },
    getTask: async (c, as) => c.json(await tasks.get(param(c, 'taskId'), as)),
    updateTask: async (c, as) => c.json(await tasks.update(param(c, 'taskId'), { ...(await body(c, 'taskChange')), ...as } as never)),
    removeTask: async (c, as) => {
      await tasks.remove(param(c, 'taskId'), as);
      return c.body(null, 204);
    },
    tree: async (c, as) => c.json({ tree: await files.tree(param(c, 'taskId'), as, { content: c.req.query('content') === 'true' }) }),
    readFile: async (c, as) => {
      const file = await files.read(param(c, 'taskId'), c.req.query('path') ?? '', as);
      return streamed(file.content, {
        'content-type': 'application/octet-stream',
        'content-length': String(file.size),
        etag: `"${file.version}"`,
        ...named(file.path),
      });
    },
    writeFile: async (c, as) => {
      const ifVersion = versionOf(c);
      const written = await files.write(param(c, 'taskId'), c.req.query('path') ?? '', content(c), {
        ...as,
        ...(ifVersion === undefined ? {} : { ifVersion }),
      });
      return c.json(written, 200, { etag: `"${written.version}"` });
    },
    removeFile: async (c, as) => c.json({ files: await files.remove(param(c, 'taskId'), c.req.query('path') ?? '', as) }),
    renameFile: async (c, as) => {
      const { from, to } = await body(c, 'rename');
      return c.json({ files: await files.rename(param(c, 'taskId'), from, to, as) });
    },
    setMain: async (c, as) => {
      await files.setMain(param(c, 'taskId'), (await body(c, 'main')).path, as);
      return c.body(null, 204);
    },
    exportZip: async (c, as) => {
      const task = await tasks.get(param(c, 'taskId'), as);
      return streamed(await files.exportZip(task.id, as), { 'content-type': 'application/zip', ...named(`${task.name}.zip`) });
    },
    importZip: async (c, as) =>
      c.json({ files: await files.importZip(param(c, 'taskId'), content(c), { ...as, replace: c.req.query('replace') === 'true' }) }),
    submit: async (c, as) => {
      const asked = (await body(c, 'submit')) as unknown as Omit<Submit, 'actor'>;
      const key = c.req.header('idempotency-key');
      const run = await runs.submit(param(c, 'taskId'), { ...asked, ...(key === undefined ? {} : { idempotencyKey: key }), ...as });
      return c.json(run, 202, { location: `${basePath}/runs/${run.id}` });
    },
    taskRuns: async (c, as) => c.json({ runs: await runs.list(as, { taskId: param(c, 'taskId'), ...page(c) }) }),
    listRuns: async (c, as) => c.json({ runs: await runs.list(as, page(c)) }),
    getRun: async (c, as) => c.json(await runs.get(param(c, 'runId'), as)),
    terminate: async (c, as) => c.json(await runs.terminate(param(c, 'runId'), as)),
    events: async (c, as) => {
      const runId = param(c, 'runId');
      const after = Number(c.req.header('last-event-id') ?? c.req.query('after') ?? 0);
      // Before the stream begins, so that what is wrong is answered with its status.
      await runs.get(runId, as);
      if (!Number.isInteger(after) || after < 0)
        throw new MalformedBodyError(`after is ${c.req.query('after')}; give the number of an event.`);
      if (c.req.header('accept')?.includes('application/json')) {
        const events: unknown[] = [];
        for await (const event of runs.events(runId, { ...as, after, follow: false })) if (events.push(eventJson(event)) >= 1_000) break;
        return c.json({ events });
      }
      const abort = new AbortController();
      c.req.raw.signal.addEventListener('abort', () => abort.abort(c.req.raw.signal.reason), { once: true });
      return eventStream(runs.events(runId, { ...as, after, signal: abort.signal }), abort);
    },
    download: async (c, as) => {
      const runId = param(c, 'runId');
      return streamed(await runs.download(runId, as), { 'content-type': 'application/zip', ...named(`run-${runId}.zip`) });
    },
    output: async (c, as) => {
      const path = c.req.query('path') ?? '';
      return streamed(await runs.output(param(c, 'runId'), path, as), { 'content-type': 'application/octet-stream', ...named(path) });
    },
    openapi: async (c) => c.json(document),
  };
  const app = new Hono().basePath(basePath);
  for (const operation of operations) {
    const handler = handlers[operation.id];
    app.on(operation.method.toUpperCase(), operation.path.replaceAll(/\{(\w+)\}/g, ':$1'), async (c) => {
      const actor = await Promise.resolve(options.actor(c.req.raw)).catch(() => undefined);
      if (actor === undefined) return unauthorized(c);
      return handler(c, { actor });
    });
  }
  app.notFound((c) => problemResponse(new NothingHereError(`There is nothing at ${c.req.method} ${c.req.path}.`), c.req.path));
  app.onError((error, c) => {
    const { status } = problemOf(error, c.req.path);
    if (status === 500) logger.error({ err: error, path: c.req.path, method: c.req.method }, 'a request failed');
    return problemResponse(error, c.req.path);
  });
  return { fetch: async (request) => app.fetch(request), document };
}

class NothingHereError extends HoldfastError {
  constructor(message: string) {
    super(message, { code: 'not-found' });
  }
}

/** The body, as its schema says. */
async function body<Name extends keyof Bodies>(c: Context, name: Name): Promise<Bodies[Name]> {
  const text = await c.req.text();
  let json: unknown;
  try {
    json = text === '' ? {} : JSON.parse(text);
  } catch (error) {
    throw new MalformedBodyError(`The body is no JSON: ${(error as Error).message}.`);
  }
  const result = bodies[name].safeParse(json);
  if (result.success) return result.data;
  throw new MalformedBodyError(
    `The body does not fit: ${result.error.issues.map(({ path, message }) => `${path.join('.') || 'it'}: ${message}`).join('; ')}. See /openapi.json.`,
  );
}

/** The body's bytes, as they come. */
function content(c: Context): AsyncIterable<Uint8Array> {
  return (c.req.raw.body ?? new Blob([]).stream()) as unknown as AsyncIterable<Uint8Array>;
}

function versionOf(c: Context): number | undefined {
  const [match, noneMatch] = [c.req.header('if-match'), c.req.header('if-none-match')];
  if (noneMatch === '*') return 0;
  if (match === undefined) return undefined;
  const version = /^"(\d+)"$/.exec(match)?.[1];
  if (version === undefined) throw new MalformedBodyError(`if-match is ${match}; give the ETag that was read, as in "3".`);
  return Number(version);
}

function streamed(stream: Readable, headers: Readonly<Record<string, string>>): Response {
  // What a program or its author wrote is never shown as a page of ours.
  return new Response(Readable.toWeb(stream) as never, { headers: { ...headers, 'x-content-type-options': 'nosniff' } });
}

/** Downloads under its name (RFC 6266). */
function named(path: string): { readonly 'content-disposition': string } {
  const name = path.slice(path.lastIndexOf('/') + 1);
  return {
    'content-disposition': `attachment; filename*=UTF-8''${encodeURIComponent(name).replaceAll(/['()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)}`,
  };
}

function unauthorized(c: Context): Response {
  const body = {
    type: errorPage('unauthorized'),
    title: 'Who are you?',
    status: 401,
    detail: 'The request does not say who asks, or not so that it can be believed. Sign in, and send it again.',
    code: 'unauthorized',
    instance: c.req.path,
  };
  return new Response(JSON.stringify(body), { status: 401, headers: { 'content-type': 'application/problem+json' } });
}
