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

const page = { before: 'Last id of the page before.', limit: 'At most 200. Default 50.' };

/** What the routes serve. */
export const operations: readonly Operation<OperationId, keyof Bodies | View>[] = [
  {
    id: 'status',
    method: 'get',
    path: '/status',
    summary: 'Where programs run and files are kept, or what is wrong with it',
    response: 'status',
  },
  { id: 'languages', method: 'get', path: '/languages', summary: 'Languages and pools', response: 'languages' },
  { id: 'listTasks', method: 'get', path: '/tasks', summary: 'Own tasks, newest first', query: page, response: 'tasks' },
  { id: 'createTask', method: 'post', path: '/tasks', summary: 'A new task', body: 'newTask', response: 'task', status: 201 },
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
    summary: 'Stop what runs of a task, and remove it',
    status: 204,
  },
  {
    id: 'tree',
    method: 'get',
    path: '/tasks/{taskId}/files',
    summary: 'The files of a task, as a tree',
    query: { content: '`true`: with texts of up to 256 KiB.' },
    response: 'tree',
  },
  {
    id: 'readFile',
    method: 'get',
    path: '/tasks/{taskId}/file',
    summary: 'One file; its version is the ETag',
    requiredQuery: { path: 'Of the file.' },
    response: 'application/octet-stream',
  },
  {
    id: 'writeFile',
    method: 'put',
    path: '/tasks/{taskId}/file',
    summary: 'Write a file, whole',
    requiredQuery: { path: 'Of the file.' },
    headers: { 'if-match': 'Only if the file has this version (`"3"`).', 'if-none-match': '`*`: only if it is not there yet.' },
    body: 'application/octet-stream',
    response: 'written',
  },
  {
    id: 'removeFile',
    method: 'delete',
    path: '/tasks/{taskId}/file',
    summary: 'Remove a file, or a folder with all that is in it',
    requiredQuery: { path: 'Of the file or folder.' },
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
    summary: 'Say which file is run',
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
    query: { replace: '`true`: other files go.' },
    body: 'application/octet-stream',
    response: 'count',
  },
  {
    id: 'submit',
    method: 'post',
    path: '/tasks/{taskId}/runs',
    summary: 'Freeze a task and queue it',
    headers: { 'idempotency-key': 'The same key again returns the same run.' },
    body: 'submit',
    bodyOptional: true,
    response: 'run',
    status: 202,
  },
  { id: 'taskRuns', method: 'get', path: '/tasks/{taskId}/runs', summary: 'Runs of a task, newest first', query: page, response: 'runs' },
  { id: 'listRuns', method: 'get', path: '/runs', summary: 'Own runs, newest first', query: page, response: 'runs' },
  { id: 'getRun', method: 'get', path: '/runs/{runId}', summary: 'One run', response: 'run' },
  { id: 'terminate', method: 'post', path: '/runs/{runId}/terminate', summary: 'Stop a run', response: 'run' },
  {
    id: 'events',
    method: 'get',
    path: '/runs/{runId}/events',
    summary: 'What happens in a run, from behind an event on: as server-sent events, up to its end; or what there is, as JSON, by `accept`',
    query: { after: 'Number of the last event that was seen.' },
    headers: { 'last-event-id': 'The same, as browsers send it.' },
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
    summary: 'One file of its results',
    requiredQuery: { path: 'Of the file, below /out.' },
    response: 'application/octet-stream',
  },
];
