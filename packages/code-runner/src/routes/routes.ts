import type { Duration, Logger } from '@holdfast/core';
import { type Call, createApi, type Handler, MalformedBodyError } from '@holdfast/http';
import type { Language } from '../languages/language.ts';
import type { Pool } from '../runs/limits.ts';
import type { Runs, Submit } from '../runs/runs.ts';
import type { TaskFiles } from '../tasks/files.ts';
import type { Tasks } from '../tasks/tasks.ts';
import { download } from './download.ts';
import { type OperationId, operations } from './operations.ts';
import { eventJson, runEventStream } from './run-event-stream.ts';
import { bodies, views } from './schemas.ts';
import { membersOf, statuses } from './statuses.ts';

/** Options of the routes: callers, base path, and the limit of a body. */
export interface RoutesOptions {
  /**
   * The actor of a request, by what it carries. `undefined` and a thrown error are answered with 401. A promise is waited for up to `callTimeout`:
   * then the request is answered with 503 `call-timeout`, and `signal` aborts.
   */
  readonly actor: (request: Request, signal: AbortSignal) => string | undefined | Promise<string | undefined>;
  /** How long the promise of `actor` is waited for. Default 10 s. */
  readonly callTimeout?: Duration;
  /** The path before all routes, for example `/v1/runner`. Default none. */
  readonly basePath?: string;
  /**
   * The largest JSON body in bytes; a larger one is answered with 413. Default 1 MiB. Uploads of files and archives have the limits of
   * tasks instead (`limits` of `createCodeRunner`).
   */
  readonly maxBodyBytes?: number;
}

/** Routes as a fetch handler, for any framework or `node:http` through an adapter. */
export interface Routes {
  /** Answers a request. */
  readonly fetch: (request: Request) => Promise<Response>;
  /** The OpenAPI document, which is also served at `/openapi.json`. */
  readonly document: Readonly<Record<string, unknown>>;
}

/** The part of a code runner that the routes serve. */
export interface ServedRunner {
  readonly tasks: Tasks;
  readonly files: TaskFiles;
  readonly runs: Runs;
  readonly languages: ReadonlyMap<string, Language>;
  readonly pools: ReadonlyMap<string, Pool>;
  status(): Promise<object>;
}

/** Serves a runner over HTTP: REST, and server-sent events for the events of a run. */
export function createRoutes(runner: ServedRunner, logger: Logger, options: RoutesOptions): Routes {
  const { tasks, files, runs } = runner;
  const { actor: authenticate, basePath = '', maxBodyBytes, callTimeout } = options;
  const handlers: Readonly<Record<OperationId, Handler<string>>> = {
    status: async () => Response.json(await runner.status()),
    languages: () =>
      Response.json({
        languages: [...runner.languages.values()].map(({ name, title, main }) => ({ name, title: title ?? name, main })),
        pools: [...runner.pools.values()].map(({ name, slots, limits }) => ({ name, slots, limits })),
      }),
    listTasks: async (call) => Response.json({ tasks: await tasks.list(as(call), page(call)) }),
    createTask: async (call) => {
      const task = await tasks.create({ ...(await call.json(bodies.newTask)), ...as(call) } as never);
      return Response.json(task, { status: 201, headers: { location: `${basePath}/tasks/${task.id}` } });
    },
    getTask: async (call) => Response.json(await tasks.get(call.param('taskId'), as(call))),
    updateTask: async (call) =>
      Response.json(await tasks.update(call.param('taskId'), { ...(await call.json(bodies.taskChange)), ...as(call) } as never)),
    removeTask: async (call) => {
      await tasks.remove(call.param('taskId'), as(call));
      return new Response(null, { status: 204 });
    },
    tree: async (call) => {
      const content = call.query('content') === 'true';
      return Response.json({ tree: await files.tree(call.param('taskId'), as(call), { content }) });
    },
    readFile: async (call) => {
      const file = await files.read(call.param('taskId'), path(call), as(call));
      return download(file.content, file.path, {
        'content-type': 'application/octet-stream',
        'content-length': String(file.size),
        etag: `"${file.version}"`,
      });
    },
    writeFile: async (call) => {
      const ifVersion = expectedVersion(call);
      const written = await files.write(call.param('taskId'), path(call), call.content(), {
        ...as(call),
        ...(ifVersion === undefined ? {} : { ifVersion }),
      });
      return Response.json(written, { headers: { etag: `"${written.version}"` } });
    },
    removeFile: async (call) => Response.json({ files: await files.remove(call.param('taskId'), path(call), as(call)) }),
    renameFile: async (call) => {
      const { from, to } = await call.json(bodies.rename);
      return Response.json({ files: await files.rename(call.param('taskId'), from, to, as(call)) });
    },
    setMain: async (call) => {
      await files.setMain(call.param('taskId'), (await call.json(bodies.main)).path, as(call));
      return new Response(null, { status: 204 });
    },
    exportZip: async (call) => {
      const task = await tasks.get(call.param('taskId'), as(call));
      return download(await files.exportZip(task.id, as(call)), `${task.name}.zip`, { 'content-type': 'application/zip' });
    },
    importZip: async (call) => {
      const replace = call.query('replace') === 'true';
      return Response.json({ files: await files.importZip(call.param('taskId'), call.content(), { ...as(call), replace }) });
    },
    submit: async (call) => {
      const submitted = (await call.json(bodies.submit)) as unknown as Omit<Submit, 'actor' | 'wait' | 'signal'>;
      const key = call.header('idempotency-key');
      const wait = call.query('wait');
      const run = await runs.submit(call.param('taskId'), {
        ...submitted,
        ...(key === undefined ? {} : { idempotencyKey: key }),
        ...(wait === undefined ? {} : { wait: wait as Duration, signal: call.request.signal }),
        ...as(call),
      });
      return Response.json(run, { status: 202, headers: { location: `${basePath}/runs/${run.id}` } });
    },
    taskRuns: async (call) => Response.json({ runs: await runs.list(as(call), { taskId: call.param('taskId'), ...page(call) }) }),
    listRuns: async (call) => Response.json({ runs: await runs.list(as(call), page(call)) }),
    getRun: async (call) => Response.json(await runs.get(call.param('runId'), as(call))),
    terminate: async (call) => Response.json(await runs.terminate(call.param('runId'), as(call))),
    events: async (call) => {
      const runId = call.param('runId');
      // A missing run must be answered with 404, which is too late once the stream has begun.
      await runs.get(runId, as(call));
      const after = lastSeen(call);
      if (call.header('accept')?.includes('application/json')) {
        const events: unknown[] = [];
        for await (const event of runs.events(runId, { ...as(call), after, follow: false }))
          if (events.push(eventJson(event)) >= 1_000) break;
        return Response.json({ events });
      }
      return runEventStream((signal) => runs.events(runId, { ...as(call), after, signal }), call.request.signal);
    },
    download: async (call) => {
      const runId = call.param('runId');
      return download(await runs.download(runId, as(call)), `run-${runId}.zip`, { 'content-type': 'application/zip' });
    },
    output: async (call) => download(await runs.output(call.param('runId'), path(call), as(call)), path(call)),
  };
  return createApi({
    info: { title: 'Code runner', version: '1.0.0', description: 'Tasks, their files, and runs of them.' },
    operations,
    handlers,
    schemas: { ...bodies, ...views },
    statuses,
    members: membersOf,
    problemMembers: { runId: { type: 'string' } },
    authenticate,
    basePath,
    logger,
    ...(maxBodyBytes === undefined ? {} : { maxBodyBytes }),
    ...(callTimeout === undefined ? {} : { callTimeout }),
  });
}

function as({ caller }: Call<string>): { readonly actor: string } {
  return { actor: caller };
}

function path(call: Call<string>): string {
  return call.query('path') ?? '';
}

function page(call: Call<string>): { readonly before?: string; readonly limit?: number } {
  const [before, limit] = [call.query('before'), Number(call.query('limit'))];
  return { ...(before === undefined ? {} : { before }), ...(limit > 0 ? { limit } : {}) };
}

/** The number of the last event that the reader has: browsers send it as `last-event-id` when they reconnect. */
function lastSeen(call: Call<string>): number {
  const given = call.header('last-event-id') ?? call.query('after') ?? '0';
  const after = Number(given);
  if (!Number.isInteger(after) || after < 0)
    throw new MalformedBodyError(`after is ${given}; give the number of an event, or 0 for all events.`);
  return after;
}

/** The version that a file must have to be written: 0 for a file that must not exist yet. */
function expectedVersion(call: Call<string>): number | undefined {
  const [match, noneMatch] = [call.header('if-match'), call.header('if-none-match')];
  if (noneMatch === '*') return 0;
  if (match === undefined) return undefined;
  const version = /^"(\d+)"$/.exec(match)?.[1];
  if (version === undefined) throw new MalformedBodyError(`if-match is ${match}; give the ETag that was read, as in "3".`);
  return Number(version);
}
