import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { digits, idOf, parseExactly } from '../admin/exact-json.ts';
import type { ProtocolVersion } from '../admin/protocol.ts';

/** A registration of an executor. */
export interface Registration {
  readonly registryGroup: string;
  readonly registryKey: string;
  readonly registryValue: string;
}

/** The end of a job as it was reported to the admin. */
export interface Callback {
  /** A number of 64 bits, as text. */
  readonly logId: string;
  readonly code: number;
  readonly msg: string;
}

/** A trigger of a job. */
export interface TriggerOptions {
  readonly jobId: number | string;
  /** Of 64 bits; above 2^53 as text. */
  readonly logId: number | string;
  readonly handler: string;
  readonly param?: string;
  readonly blockStrategy?: 'SERIAL_EXECUTION' | 'DISCARD_LATER' | 'COVER_EARLY';
  readonly timeoutSeconds?: number;
  readonly glueType?: string;
  readonly shard?: readonly [index: number, total: number];
}

/** A part of a run's log. */
export interface LogPart {
  readonly fromLineNum: number;
  readonly toLineNum: number;
  readonly logContent: string;
  readonly isEnd: boolean;
}

/** A test double of an admin of one version: it accepts and refuses requests, and triggers jobs, as that version does. */
export interface AdminDouble extends AsyncDisposable {
  /** The address to give to an executor. */
  readonly url: string;
  readonly registered: ReadonlyMap<string, Registration>;
  readonly callbacks: readonly Callback[];
  /** Requests that were refused, with the reason. */
  readonly refused: readonly string[];
  /** While `true`, every request is answered with 503. */
  down: boolean;
  /** The ids of logs whose ends are refused, with every other end of the same request. */
  readonly refuses: Set<string>;
  /** Triggers a job of an executor. Returns the answer's `code` and `msg`. */
  trigger(executor: string, options: TriggerOptions): Promise<{ readonly code: number; readonly msg: string | null }>;
  /** Calls another operation of an executor. Returns its answer. */
  call(
    executor: string,
    path: 'beat' | 'idleBeat' | 'kill',
    body?: object,
  ): Promise<{ readonly code: number; readonly msg: string | null }>;
  /** Reads a part of a run's log, from a line that counts from 1. */
  log(executor: string, logId: number | string, fromLineNum?: number): Promise<LogPart>;
  /** Stops the admin. */
  close(): Promise<void>;
}

const triggeredAt = 1_763_700_000_000;

/** Starts a test double of an admin. It records registrations and callbacks. */
export async function adminDouble(version: ProtocolVersion, accessToken: string = 'default_token'): Promise<AdminDouble> {
  const registered = new Map<string, Registration>();
  const callbacks: Callback[] = [];
  const refused: string[] = [];
  const refuses = new Set<string>();
  let down = false;
  const server = createServer(async (request, response) => {
    const answer = (code: number, msg: string | null): void => {
      if (code !== 200) refused.push(`${request.url}: ${msg}`);
      response.writeHead(down ? 503 : 200, { 'content-type': 'application/json' }).end(JSON.stringify({ code, msg }));
    };
    const body = await readJson(request);
    if (down) return answer(500, 'down');
    if (request.headers['xxl-job-access-token'] !== accessToken) return answer(500, 'The access token is wrong.');
    if (version === '3.5' && !request.headers['xxl-job-appname']) return answer(500, 'The app name is missing.');
    const path = request.url?.replace(/^\/xxl-job-admin\/api\//, '');
    if (path === 'registry' || path === 'registryRemove') {
      const one = body as Registration;
      if (one?.registryGroup !== 'EXECUTOR' || !one.registryKey || !/^http:\/\/\S+\/$/.test(one.registryValue))
        return answer(500, 'Illegal Argument.');
      if (path === 'registry') registered.set(one.registryValue, one);
      else registered.delete(one.registryValue);
      return answer(200, null);
    }
    if (path === 'callback') {
      const ends = readCallbacks(version, body);
      if (typeof ends === 'string') return answer(500, ends);
      const bad = ends.find(({ logId }) => refuses.has(logId));
      if (bad) return answer(500, `The log ${bad.logId} is not known.`);
      callbacks.push(...ends);
      return answer(200, null);
    }
    return answer(500, `invalid request, uri-mapping(${path}) not found.`);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const post = async <T>(executor: string, path: string, body: object): Promise<T> => {
    const response = await fetch(`${executor.replace(/\/$/, '')}/${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json;charset=UTF-8', 'XXL-JOB-ACCESS-TOKEN': accessToken },
      body: JSON.stringify(body),
    });
    if (response.status !== 200) throw new Error(`The executor answered with HTTP ${response.status}; the protocol has only 200.`);
    return (await response.json()) as T;
  };
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  };
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/xxl-job-admin`,
    registered,
    callbacks,
    refused,
    refuses,
    get down() {
      return down;
    },
    set down(value) {
      down = value;
    },
    trigger: (
      executor,
      { jobId, logId, handler, param = '', blockStrategy = 'SERIAL_EXECUTION', timeoutSeconds = 0, glueType = 'BEAN', shard = [0, 1] },
    ) =>
      post(executor, version === '3.5' ? 'trigger' : 'run', {
        jobId: number(jobId),
        executorHandler: handler,
        executorParams: param,
        executorBlockStrategy: blockStrategy,
        executorTimeout: timeoutSeconds,
        logId: number(logId),
        logDateTime: triggeredAt,
        glueType,
        glueSource: '',
        glueUpdatetime: triggeredAt,
        broadcastIndex: shard[0],
        broadcastTotal: shard[1],
      }),
    call: (executor, path, body = {}) => post(executor, path, body),
    log: async (executor, logId, fromLineNum = 1) => {
      const time = version === '3.5' ? { logDateTime: triggeredAt } : { logDateTim: triggeredAt };
      const reply = await post<{ code: number; content?: LogPart; data?: LogPart }>(executor, 'log', {
        ...time,
        logId: number(logId),
        fromLineNum,
      });
      const part = version === '3.5' ? reply.data : reply.content;
      if (reply.code !== 200 || !part) throw new Error(`The executor did not return the log: ${JSON.stringify(reply)}`);
      return part;
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** Reads a callback as this version's admin does. Returns the reason if the admin refuses it. */
function readCallbacks(version: ProtocolVersion, body: unknown): readonly Callback[] | string {
  const list = version === '3.5' ? (body as { callbackList?: unknown })?.callbackList : body;
  if (!Array.isArray(list)) return 'Illegal Argument: no list of callbacks.';
  const ends: Callback[] = [];
  for (const one of list as Record<string, unknown>[]) {
    const time = version === '3.5' ? one.logDateTime : one.logDateTim;
    const result =
      version === '2.2'
        ? (one.executeResult as { code?: number; msg?: string } | undefined)
        : { code: one.handleCode as number, msg: one.handleMsg as string };
    if (time !== triggeredAt || typeof result?.code !== 'number') return `Illegal Argument: ${JSON.stringify(one)}`;
    ends.push({ logId: idOf(one, 'logId'), code: result.code, msg: String(result.msg ?? '') });
  }
  return ends;
}

/** An id as a number of JSON, as an admin sends it. */
function number(id: number | string): unknown {
  return typeof id === 'string' ? digits(id) : id;
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return parseExactly(Buffer.concat(chunks).toString('utf8') || 'null');
}
