import { z } from 'zod';
import { phases, reasons } from '../runs/states.ts';
import type { DataSet } from '../tasks/data-sets.ts';

const id = z.string().max(40);
const time = z.number().int().meta({ description: "Milliseconds since 1970, by the database's clock." });

const dataSet = z.object({ path: z.string(), object: z.string() });
const limits = z
  .object({
    memoryBytes: z.number(),
    cpus: z.number(),
    timeoutMs: z.number(),
    outputBytes: z.number(),
    diskBytes: z.number(),
    processes: z.number(),
    resultBytes: z.number(),
  })
  .partial();

/** The bodies of requests, by name. */
export interface Bodies {
  readonly newTask: {
    readonly name: string;
    readonly language: string;
    readonly files?: Record<string, string> | undefined;
    readonly main?: string | undefined;
    readonly dataSets?: readonly DataSet[] | undefined;
  };
  readonly taskChange: {
    readonly name?: string | undefined;
    readonly language?: string | undefined;
    readonly dataSets?: readonly DataSet[] | undefined;
  };
  readonly rename: { readonly from: string; readonly to: string };
  readonly main: { readonly path: string };
  readonly submit: {
    readonly argv?: unknown;
    readonly execCommand?: string | undefined;
    readonly args?: unknown;
    readonly remarks?: string | undefined;
    readonly priority?: number | undefined;
    readonly pool?: string | undefined;
    readonly limits?: Record<string, unknown> | undefined;
    readonly stdin?: string | undefined;
    readonly env?: Record<string, string> | undefined;
    readonly idempotencyKey?: string | undefined;
  };
}

/** The shapes of the bodies. Further rules are checked by the runner, whose messages are more specific. */
export const bodies: { readonly [Name in keyof Bodies]: z.ZodType<Bodies[Name]> } = {
  newTask: z.object({
    name: z.string(),
    language: z.string(),
    files: z.record(z.string(), z.string()).optional(),
    main: z.string().optional(),
    dataSets: z.array(dataSet).optional(),
  }),
  taskChange: z.object({ name: z.string(), language: z.string(), dataSets: z.array(dataSet) }).partial(),
  rename: z.object({ from: z.string(), to: z.string() }),
  main: z.object({ path: z.string() }),
  submit: z.object({
    argv: z.unknown().optional().meta({ description: 'The program and its arguments, a list of strings. Default: the main file.' }),
    execCommand: z.string().optional().meta({ description: '`argv` as one line, for older clients. No shell reads it.' }),
    args: z
      .unknown()
      .optional()
      .meta({ description: 'Arguments of the main file: a list of strings, or one line. Not with `argv` or `execCommand`.' }),
    remarks: z.string().optional().meta({ description: 'A note that is kept with the run, at most 2,000 characters.' }),
    priority: z.number().optional(),
    pool: z.string().optional(),
    limits: z.record(z.string(), z.unknown()).optional(),
    stdin: z.string().optional().meta({ description: 'Standard input: a text of at most 262,144 bytes.' }),
    env: z.record(z.string(), z.string()).optional().meta({ description: 'Environment variables by name.' }),
    idempotencyKey: z.string().optional(),
  }),
};

const task = z.object({
  id,
  owner: z.string(),
  name: z.string(),
  language: z.string(),
  main: z.string().nullable(),
  version: z.number().int(),
  files: z.number().int(),
  bytes: z.number().int(),
  dataSets: z.array(dataSet),
  draftRunId: id.nullable(),
  createdAt: time,
  updatedAt: time,
});

const run = z.object({
  id,
  taskId: id,
  actor: z.string(),
  state: z.number().int().min(0).max(5).meta({ description: '0 not submitted, 1 queued, 2 running, 3 finished, 4 failed, 5 terminated.' }),
  phase: z.enum(phases),
  reason: z.enum(reasons).nullable(),
  message: z.string().nullable(),
  language: z.string().nullable(),
  main: z.string().nullable(),
  argv: z.array(z.string()).nullable(),
  remarks: z.string().nullable(),
  priority: z.number().int(),
  pool: z.string().nullable(),
  limits: limits.nullable(),
  attempt: z.number().int(),
  exitCode: z.number().int().nullable(),
  signal: z.string().nullable(),
  stoppedBy: z.string().nullable(),
  createdAt: time,
  submitTime: time.nullable(),
  startedAt: time.nullable(),
  endedAt: time.nullable(),
  usage: z
    .object({ cpuMs: z.number().nullable(), wallMs: z.number().nullable(), peakMemoryBytes: z.number().nullable() })
    .nullable()
    .meta({ description: 'What the program has used; null before its end.' }),
  logBytes: z.number().int(),
  lastSeq: z.number().int(),
  output: z.object({ files: z.array(z.object({ path: z.string(), size: z.number().int() })), truncated: z.boolean() }).nullable(),
  jobUid: z.string(),
  dirPath: z.string(),
  resLogPath: z.string(),
  downloadPath: z.string(),
});

/** The bodies of responses, by name. */
export type View = 'task' | 'tasks' | 'run' | 'runs' | 'languages' | 'tree' | 'written' | 'count' | 'events' | 'status';

export const views: Readonly<Record<View, z.ZodType>> = {
  task,
  tasks: z.object({ tasks: z.array(task) }),
  run,
  runs: z.object({ runs: z.array(run.omit({ output: true })) }),
  languages: z.object({
    languages: z.array(z.object({ name: z.string(), title: z.string(), main: z.string() })),
    pools: z.array(z.object({ name: z.string(), slots: z.number().int(), limits })),
  }),
  tree: z.object({
    tree: z.array(z.unknown().meta({ description: 'id, name, path, content?, fileType, fileSize, isLeaf, main, children.' })),
  }),
  written: z.object({ path: z.string(), size: z.number().int(), version: z.number().int() }),
  count: z.object({ files: z.number().int() }),
  events: z.object({ events: z.array(z.unknown()) }),
  status: z.object({ executor: z.string(), files: z.string(), queue: z.string() }),
};
