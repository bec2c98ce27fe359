import type { Operation } from '@holdfast/http';
import type { Bodies, View } from './schemas.ts';

/** The names of the operations. */
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
  | 'output';

const page = { before: 'The last id of the previous page.', limit: 'The size of the page, at most 200. Default 50.' };

/** The operations of the routes. */
export const operations: readonly Operation<OperationId, keyof Bodies | View>[] = [
  {
    id: 'status',
    method: 'get',
    path: '/status',
    summary: 'The executor, the file store and the queue; a problem if one of them cannot be used',
    response: 'status',
  },
  { id: 'languages', method: 'get', path: '/languages', summary: 'Languages and pools', response: 'languages' },
  { id: 'listTasks', method: 'get', path: '/tasks', summary: 'The tasks of the caller, newest first', query: page, response: 'tasks' },
  { id: 'createTask', method: 'post', path: '/tasks', summary: 'Create a task', body: 'newTask', response: 'task', status: 201 },
  { id: 'getTask', method: 'get', path: '/tasks/{taskId}', summary: 'One task', response: 'task' },
  {
    id: 'updateTask',
    method: 'patch',
    path: '/tasks/{taskId}',
    summary: 'Rename a task, change its language or its data sets',
    body: 'taskChange',
    response: 'task',
  },
  {
    id: 'removeTask',
    method: 'delete',
    path: '/tasks/{taskId}',
    summary: 'Stop the runs of a task, and remove it',
    status: 204,
  },
  {
    id: 'tree',
    method: 'get',
    path: '/tasks/{taskId}/files',
    summary: 'The files of a task, as a tree',
    query: { content: '`true` to include the content of text files up to 256 KiB.' },
    response: 'tree',
  },
  {
    id: 'readFile',
    method: 'get',
    path: '/tasks/{taskId}/file',
    summary: 'One file; its version is the ETag',
    requiredQuery: { path: 'The path of the file.' },
    response: 'application/octet-stream',
  },
  {
    id: 'writeFile',
    method: 'put',
    path: '/tasks/{taskId}/file',
    summary: 'Write a file, replacing its content',
    requiredQuery: { path: 'The path of the file.' },
    headers: {
      'if-match': 'Write only if the file has this version (`"3"`).',
      'if-none-match': '`*`: write only if the file does not exist.',
    },
    body: 'application/octet-stream',
    response: 'written',
  },
  {
    id: 'removeFile',
    method: 'delete',
    path: '/tasks/{taskId}/file',
    summary: 'Remove a file, or a folder with its content',
    requiredQuery: { path: 'The path of the file or folder.' },
    response: 'count',
  },
  {
    id: 'renameFile',
    method: 'post',
    path: '/tasks/{taskId}/rename',
    summary: 'Rename or move a file or a folder',
    body: 'rename',
    response: 'count',
  },
  {
    id: 'setMain',
    method: 'put',
    path: '/tasks/{taskId}/main',
    summary: 'Choose the file that is run',
    body: 'main',
    status: 204,
  },
  {
    id: 'exportZip',
    method: 'get',
    path: '/tasks/{taskId}/zip',
    summary: 'All files of a task, as an archive',
    response: 'application/zip',
  },
  {
    id: 'importZip',
    method: 'put',
    path: '/tasks/{taskId}/zip',
    summary: 'Write the files of an archive, all or none',
    query: { replace: '`true` to remove all other files.' },
    body: 'application/octet-stream',
    response: 'count',
  },
  {
    id: 'submit',
    method: 'post',
    path: '/tasks/{taskId}/runs',
    summary: 'Submit a run of a snapshot of the task; with `wait`, the answer is the run at its end, or as it stands then',
    query: { wait: 'How long to wait for the end of the run, at most `5m`: `30s`. Default: not at all.' },
    headers: { 'idempotency-key': 'The same key again returns the same run.' },
    body: 'submit',
    bodyOptional: true,
    response: 'run',
    status: 202,
  },
  { id: 'taskRuns', method: 'get', path: '/tasks/{taskId}/runs', summary: 'Runs of a task, newest first', query: page, response: 'runs' },
  { id: 'listRuns', method: 'get', path: '/runs', summary: 'The runs of the caller, newest first', query: page, response: 'runs' },
  { id: 'getRun', method: 'get', path: '/runs/{runId}', summary: 'One run', response: 'run' },
  { id: 'terminate', method: 'post', path: '/runs/{runId}/terminate', summary: 'Stop a run', response: 'run' },
  {
    id: 'events',
    method: 'get',
    path: '/runs/{runId}/events',
    summary:
      'The events of a run after a given one: as server-sent events until the run ends, or, by `accept: application/json`, the events so far',
    query: { after: 'The number of the last event that the reader has.' },
    headers: { 'last-event-id': 'The same as `after`, as browsers send it.' },
    response: 'text/event-stream',
  },
  {
    id: 'download',
    method: 'get',
    path: '/runs/{runId}/download',
    summary: 'Results, log and code of a run, as an archive',
    response: 'application/zip',
  },
  {
    id: 'output',
    method: 'get',
    path: '/runs/{runId}/output',
    summary: 'One file of the results of a run',
    requiredQuery: { path: 'The path of the file, below /out.' },
    response: 'application/octet-stream',
  },
];
