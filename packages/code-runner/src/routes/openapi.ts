import { z } from 'zod';
import { type Bodies, bodies, type View, views } from './schemas.ts';

export type OperationId =
  | 'status'
  | 'languages'
  | 'listTasks'
  | 'createTask'
  | 'getTask'
  | 'updateTask'
  | 'removeTask'
  | 'tree'
  | 'readFile'
  | 'writeFile'
  | 'removeFile'
  | 'renameFile'
  | 'setMain'
  | 'exportZip'
  | 'importZip'
  | 'submit'
  | 'taskRuns'
  | 'listRuns'
  | 'getRun'
  | 'terminate'
  | 'events'
  | 'download'
  | 'output'
  | 'openapi';

/** One thing that can be asked for: what its document says, and what it is mounted by. */
export interface Operation {
  readonly id: OperationId;
  readonly method: 'get' | 'post' | 'put' | 'patch' | 'delete';
  /** Parameters in braces. */
  readonly path: string;
  readonly summary: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: keyof Bodies | 'bytes';
  readonly answer: View | 'bytes' | 'zip' | 'event-stream' | 'nothing';
  readonly status?: number;
}

const page = { before: 'Last id of the page before.', limit: 'At most 200. Default 50.' };

export const operations: readonly Operation[] = [
  {
    id: 'status',
    method: 'get',
    path: '/status',
    summary: 'Where programs run and files are kept, or what is wrong with it',
    answer: 'status',
  },
  { id: 'languages', method: 'get', path: '/languages', summary: 'Languages and pools', answer: 'languages' },
  { id: 'listTasks', method: 'get', path: '/tasks', summary: 'Own tasks, newest first', query: page, answer: 'tasks' },
  { id: 'createTask', method: 'post', path: '/tasks', summary: 'A new task', body: 'newTask', answer: 'task', status: 201 },
  { id: 'getTask', method: 'get', path: '/tasks/{taskId}', summary: 'One task', answer: 'task' },
  {
    id: 'updateTask',
    method: 'patch',
    path: '/tasks/{taskId}',
    summary: 'Rename a task, change its language or its data sets',
    body: 'taskChange',
    answer: 'task',
  },
  {
    id: 'removeTask',
    method: 'delete',
    path: '/tasks/{taskId}',
    summary: 'Stop what runs of a task, and remove it',
    answer: 'nothing',
    status: 204,
  },
  {
    id: 'tree',
    method: 'get',
    path: '/tasks/{taskId}/files',
    summary: 'The files of a task, as a tree',
    query: { content: '`true`: with texts of up to 256 KiB.' },
    answer: 'tree',
  },
  {
    id: 'readFile',
    method: 'get',
    path: '/tasks/{taskId}/file',
    summary: 'One file; its version is the ETag',
    query: { path: 'Of the file.' },
    answer: 'bytes',
  },
  {
    id: 'writeFile',
    method: 'put',
    path: '/tasks/{taskId}/file',
    summary: 'Write a file, whole',
    query: { path: 'Of the file.' },
    headers: { 'if-match': 'Only if the file has this version (`"3"`).', 'if-none-match': '`*`: only if it is not there yet.' },
    body: 'bytes',
    answer: 'written',
  },
  {
    id: 'removeFile',
    method: 'delete',
    path: '/tasks/{taskId}/file',
    summary: 'Remove a file, or a folder with all that is in it',
    query: { path: 'Of the file or folder.' },
    answer: 'count',
  },
  {
    id: 'renameFile',
    method: 'post',
    path: '/tasks/{taskId}/rename',
    summary: 'Rename or move a file or a folder',
    body: 'rename',
    answer: 'count',
  },
  {
    id: 'setMain',
    method: 'put',
    path: '/tasks/{taskId}/main',
    summary: 'Say which file is run',
    body: 'main',
    answer: 'nothing',
    status: 204,
  },
  { id: 'exportZip', method: 'get', path: '/tasks/{taskId}/zip', summary: 'All files of a task, as an archive', answer: 'zip' },
  {
    id: 'importZip',
    method: 'put',
    path: '/tasks/{taskId}/zip',
    summary: 'Write the files of an archive, all or none',
    query: { replace: '`true`: other files go.' },
    body: 'bytes',
    answer: 'count',
  },
  {
    id: 'submit',
    method: 'post',
    path: '/tasks/{taskId}/runs',
    summary: 'Freeze a task and queue it',
    headers: { 'idempotency-key': 'The same key again returns the same run.' },
    body: 'submit',
    answer: 'run',
    status: 202,
  },
  { id: 'taskRuns', method: 'get', path: '/tasks/{taskId}/runs', summary: 'Runs of a task, newest first', query: page, answer: 'runs' },
  { id: 'listRuns', method: 'get', path: '/runs', summary: 'Own runs, newest first', query: page, answer: 'runs' },
  { id: 'getRun', method: 'get', path: '/runs/{runId}', summary: 'One run', answer: 'run' },
  { id: 'terminate', method: 'post', path: '/runs/{runId}/terminate', summary: 'Stop a run', answer: 'run' },
  {
    id: 'events',
    method: 'get',
    path: '/runs/{runId}/events',
    summary: 'What happens in a run, from behind an event on: as server-sent events, up to its end; or what there is, as JSON, by `accept`',
    query: { after: 'Number of the last event that was seen.' },
    headers: { 'last-event-id': 'The same, as browsers send it.' },
    answer: 'event-stream',
  },
  {
    id: 'download',
    method: 'get',
    path: '/runs/{runId}/download',
    summary: 'Results, log and code of a run, as an archive',
    answer: 'zip',
  },
  {
    id: 'output',
    method: 'get',
    path: '/runs/{runId}/output',
    summary: 'One file of its results',
    query: { path: 'Of the file, below /out.' },
    answer: 'bytes',
  },
  { id: 'openapi', method: 'get', path: '/openapi.json', summary: 'This document', answer: 'nothing' },
];

const types = { bytes: 'application/octet-stream', zip: 'application/zip', 'event-stream': 'text/event-stream' } as const;

/** OpenAPI 3.1 of the routes. */
export function openApi(basePath: string): Readonly<Record<string, unknown>> {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const operation of operations) {
    const parameters = [
      ...[...operation.path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({ name, in: 'path', required: true, schema: { type: 'string' } })),
      ...Object.entries(operation.query ?? {}).map(([name, description]) => ({
        name,
        in: 'query',
        required: name === 'path',
        description,
        schema: { type: 'string' },
      })),
      ...Object.entries(operation.headers ?? {}).map(([name, description]) => ({
        name,
        in: 'header',
        description,
        schema: { type: 'string' },
      })),
    ];
    paths[operation.path] = {
      ...paths[operation.path],
      [operation.method]: {
        operationId: operation.id,
        summary: operation.summary,
        ...(parameters.length > 0 ? { parameters } : {}),
        ...(operation.body === undefined
          ? {}
          : {
              requestBody: {
                required: operation.body !== 'submit',
                content:
                  operation.body === 'bytes'
                    ? { 'application/octet-stream': { schema: { type: 'string', format: 'binary' } } }
                    : { 'application/json': { schema: { $ref: `#/components/schemas/${operation.body}` } } },
              },
            }),
        responses: {
          [operation.status ?? 200]: { description: operation.summary, ...contentOf(operation.answer) },
          default: {
            description: 'A problem',
            content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/problem' } } },
          },
        },
      },
    };
  }
  return {
    openapi: '3.1.0',
    info: { title: 'Code runner', version: '1.0.0', description: 'Tasks, their files, and runs of them.' },
    servers: [{ url: basePath || '/' }],
    paths,
    components: {
      schemas: {
        ...Object.fromEntries(
          [...Object.entries(bodies), ...Object.entries(views)].map(([name, schema]) => [name, z.toJSONSchema(schema)]),
        ),
        problem: {
          type: 'object',
          required: ['type', 'title', 'status', 'detail', 'code', 'instance'],
          properties: {
            type: { type: 'string' },
            title: { type: 'string' },
            status: { type: 'integer' },
            detail: { type: 'string' },
            code: { type: 'string' },
            instance: { type: 'string' },
            runId: { type: 'string' },
          },
        },
      },
    },
  };
}

function contentOf(answer: Operation['answer']): Readonly<Record<string, unknown>> {
  if (answer === 'nothing') return {};
  if (answer in types) return { content: { [types[answer as keyof typeof types]]: { schema: { type: 'string' } } } };
  return { content: { 'application/json': { schema: { $ref: `#/components/schemas/${answer}` } } } };
}
