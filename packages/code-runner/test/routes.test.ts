import { existsSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { connect, type Socket } from 'node:net';
import { Readable } from 'node:stream';
import { S3Client } from '@aws-sdk/client-s3';
import { expect, it } from 'vitest';
import type { CodeRunner, Routes } from '../src/index.ts';
import { kubernetes } from '../src/kubernetes/index.ts';
import { operations } from '../src/routes/operations.ts';
import { s3Files } from '../src/s3/index.ts';
import { localSandbox } from '../src/sandbox/index.ts';
import { s3Client } from './s3.ts';
import { onEveryDatabase } from './suite.ts';

const isolation = existsSync('/usr/bin/bwrap') ? {} : ({ isolation: 'none-trusted-code-only' } as const);

/** Requests as their client makes them. */
function client(routes: Routes, actor = 'alice') {
  return async (method: string, path: string, body?: unknown, headers: Record<string, string> = {}) => {
    const raw = body instanceof Uint8Array || typeof body === 'string';
    const response = await routes.fetch(
      new Request(`http://x/v1/runner${path}`, {
        method,
        headers: { authorization: actor, ...headers },
        ...(body === undefined ? {} : { body: raw ? (body as never) : JSON.stringify(body) }),
      }),
    );
    const type = response.headers.get('content-type') ?? '';
    const text = type.includes('zip') ? '' : await response.text();
    return { status: response.status, type, headers: response.headers, text, json: type.includes('json') ? JSON.parse(text) : undefined };
  };
}

/** A fetch handler behind node:http, over a real connection. */
async function serve(routes: Routes): Promise<{ readonly url: string; readonly port: number; readonly server: Server }> {
  const server = createServer(async (request, response) => {
    const abort = new AbortController();
    response.on('close', () => abort.abort());
    const answer = await routes.fetch(
      new Request(`http://127.0.0.1${request.url}`, {
        method: request.method ?? 'GET',
        headers: request.headers as Record<string, string>,
        signal: abort.signal,
        ...(request.method === 'GET' ? {} : { body: Readable.toWeb(request) as never, duplex: 'half' }),
      } as RequestInit),
    );
    response.writeHead(answer.status, Object.fromEntries(answer.headers));
    if (answer.body)
      Readable.fromWeb(answer.body as never)
        .on('error', () => undefined)
        .pipe(response);
    else response.end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}/v1/runner`, port, server };
}

onEveryDatabase(
  'routes',
  (suite) => {
    const routed = (options: Parameters<typeof suite.runner>[0] = {}): { readonly runner: CodeRunner; readonly routes: Routes } => {
      const runner = suite.runner({ executor: localSandbox(isolation), ...options });
      return {
        runner,
        routes: runner.routes({ basePath: '/v1/runner', actor: (request) => request.headers.get('authorization') ?? undefined }),
      };
    };

    it('a submit that waits answers with the end of the run, or with the run as it stands', async () => {
      const { runner, routes } = routed({ pools: { waits: {} } });
      const ask = client(routes);
      const files = { 'run.py': 'import sys, time\nprint(sys.argv[1:])\ntime.sleep(float(sys.argv[1]))\nsys.exit(3)\n' };
      const { json: task } = await ask('POST', '/tasks', { name: 'waits', language: 'python', files });
      expect(task.main).toBe('run.py');
      const waiting = await ask('POST', `/tasks/${task.id}/runs?wait=100ms`, { args: ['0', 'two words'], remarks: 'a note' });
      expect([waiting.status, waiting.json.phase]).toEqual([202, 'queued']);
      await runner.runs.terminate(waiting.json.id, { actor: 'alice' });
      await runner.worker({ grace: 200 }).start();
      const ended = await ask('POST', `/tasks/${task.id}/runs?wait=30s`, { args: "0 'two words'", remarks: 'a note' });
      expect([ended.status, ended.json]).toMatchObject([
        202,
        { phase: 'terminal', state: 4, exitCode: 3, remarks: 'a note', argv: ['python3', 'run.py', '0', 'two words'] },
      ]);
      const slow = await ask('POST', `/tasks/${task.id}/runs?wait=200ms`, { args: ['20'] });
      expect(slow.json).toMatchObject({ endedAt: null });
      await runner.runs.terminate(slow.json.id, { actor: 'alice' });
      for (const wait of ['6m', 'soon', '-1s'])
        expect((await ask('POST', `/tasks/${task.id}/runs?wait=${wait}`, {})).json, wait).toMatchObject({ status: 422 });
      expect((await ask('POST', `/tasks/${task.id}/runs`, { args: ['1'], argv: ['python3'] })).json).toMatchObject({ status: 422 });
      expect((await ask('POST', `/tasks/${task.id}/runs`, { args: 'a | b' })).json.detail).toMatch(/args has "\|", which only a shell/);
    });

    it('a task is made, edited, run, followed, stopped and downloaded by HTTP', async () => {
      const { runner, routes } = routed();
      await runner.worker({ grace: 200 }).start();
      const ask = client(routes);
      const made = await ask('POST', '/tasks', { name: 'http', language: 'python' });
      expect([made.status, made.headers.get('location')]).toEqual([201, `/v1/runner/tasks/${made.json.id}`]);
      const at = `/tasks/${made.json.id}`;
      expect((await ask('PUT', `${at}/file?path=lib/x.txt`, 'data')).json).toEqual({ path: 'lib/x.txt', size: 4, version: 1 });
      const read = await ask('GET', `${at}/file?path=lib/x.txt`);
      expect([read.text, read.headers.get('etag'), read.headers.get('content-disposition')]).toEqual([
        'data',
        '"1"',
        "attachment; filename*=UTF-8''x.txt",
      ]);
      expect((await ask('PUT', `${at}/file?path=lib/x.txt`, 'lost', { 'if-match': '"7"' })).json).toMatchObject({
        status: 409,
        code: 'version-conflict',
      });
      expect((await ask('PUT', `${at}/file?path=lib/x.txt`, 'new', { 'if-none-match': '*' })).status).toBe(409);
      expect((await ask('POST', `${at}/rename`, { from: 'lib', to: 'data' })).json).toEqual({ files: 1 });
      await ask('PUT', `${at}/file?path=run.py`, 'import sys\nprint("hello", open("data/x.txt").read(), *sys.argv[1:])\n');
      expect((await ask('PUT', `${at}/main`, { path: 'run.py' })).status).toBe(204);
      const tree = (await ask('GET', `${at}/files?content=true`)).json.tree;
      expect(tree.map((node: { path: string }) => node.path)).toEqual(['data', 'run.py', 'run.sh']);
      const run = await ask('POST', `${at}/runs`, { argv: ['python3', 'run.py', 'you'] }, { 'idempotency-key': 'a' });
      expect(run).toMatchObject({ status: 202, json: { state: 1 } });
      expect((await ask('POST', `${at}/runs`, { argv: ['python3', 'run.py', 'you'] }, { 'idempotency-key': 'a' })).json.id).toBe(
        run.json.id,
      );
      const stream = await ask('GET', `/runs/${run.json.id}/events`);
      expect(stream.type).toBe('text/event-stream');
      const printed = [...stream.text.matchAll(/^id: \d+\nevent: log\ndata: (.*)$/gm)]
        .map(([, data]) => JSON.parse(data ?? '').text)
        .join('');
      expect(printed).toBe('hello data you\n');
      expect(stream.text.trim().endsWith('event: end\ndata: {}')).toBe(true);
      const whole = (await ask('GET', `/runs/${run.json.id}/events`, undefined, { accept: 'application/json' })).json.events;
      const rest = (await ask('GET', `/runs/${run.json.id}/events?after=4`, undefined, { accept: 'application/json' })).json.events;
      expect(rest).toEqual(whole.slice(4));
      expect((await ask('GET', `/runs/${run.json.id}`)).json).toMatchObject({ state: 3, exitCode: 0 });
      expect((await ask('POST', `/runs/${run.json.id}/terminate`)).json).toMatchObject({ status: 409, code: 'run-ended' });
      expect((await ask('GET', `/runs/${run.json.id}/download`)).type).toBe('application/zip');
      expect((await ask('GET', `${at}/runs`)).json.runs).toHaveLength(1);
      expect((await ask('DELETE', at)).status).toBe(204);
      expect((await ask('GET', at)).status).toBe(404);
    });

    it('a browser that loses the stream goes on with the number of the last event, over real connections', async () => {
      const { runner, routes } = routed();
      await runner.worker().start();
      const { url, server } = await serve(routes);
      try {
        const task = await runner.tasks.create({
          actor: 'alice',
          name: 'sse',
          language: 'python',
          files: { 'r.py': 'import time\nfor i in range(30):\n  print("line", i, flush=True)\n  time.sleep(0.02)\n' },
          main: 'r.py',
        });
        const run = await runner.runs.submit(task.id, { actor: 'alice' });
        let last = '0';
        let text = '';
        let cuts = 0;
        for (let end = false; !end; ) {
          const abort = new AbortController();
          const response = await fetch(`${url}/runs/${run.id}/events`, {
            headers: { authorization: 'alice', 'last-event-id': last },
            signal: abort.signal,
          });
          let pending = '';
          try {
            for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
              pending += Buffer.from(chunk).toString();
              const blocks = pending.split('\n\n');
              pending = blocks.pop() ?? '';
              for (const block of blocks) {
                if (block === 'event: end\ndata: {}') end = true;
                const id = /^id: (\d+)$/m.exec(block)?.[1];
                if (id === undefined) continue;
                last = id;
                const data = JSON.parse(/^data: (.*)$/m.exec(block)?.[1] ?? '{}') as { text?: string };
                text += data.text ?? '';
                if (Number(id) % 2 === 0) {
                  cuts += 1;
                  abort.abort();
                }
              }
            }
          } catch (error) {
            if (!abort.signal.aborted) throw error;
          }
        }
        expect(text).toBe(Array.from({ length: 30 }, (_, i) => `line ${i}\n`).join(''));
        expect(cuts).toBeGreaterThan(2);
      } finally {
        server.closeAllConnections();
        server.close();
      }
    });

    it('a reader that takes nothing costs no memory, and holds nobody up', async () => {
      const { runner, routes } = routed({ pools: { small: { limits: { outputBytes: 64 * 2 ** 20 } } } });
      await runner.worker().start();
      const { port, server } = await serve(routes);
      const task = await runner.tasks.create({
        actor: 'alice',
        name: 'much',
        language: 'python',
        files: { 'r.py': 'import sys\nfor i in range(300): sys.stdout.write("x" * 99999 + "\\n")\n' },
        main: 'r.py',
      });
      const run = await runner.runs.submit(task.id, { actor: 'alice' });
      const accepted: Socket[] = [];
      server.on('connection', (socket) => accepted.push(socket));
      const sockets = Array.from({ length: 5 }, () => connect(port, '127.0.0.1'));
      try {
        for (const socket of sockets) {
          socket.pause();
          socket.write(`GET /v1/runner/runs/${run.id}/events HTTP/1.1\r\nhost: x\r\nauthorization: alice\r\n\r\n`);
        }
        let bytes = 0;
        for await (const event of runner.runs.events(run.id, { actor: 'alice', signal: AbortSignal.timeout(50_000) }))
          if (event.type === 'log') bytes += event.bytes.length;
        expect(bytes).toBe(30_000_000);
        // Of the 30 MB that each of them is owed a few chunks wait here; the rest is where it is stored.
        expect(accepted.length).toBe(5);
        for (const socket of accepted) expect(socket.writableLength).toBeLessThan(2 ** 20);
      } finally {
        for (const socket of sockets) socket.destroy();
        server.closeAllConnections();
        server.close();
      }
    });

    it('what is wrong is a problem with the sentence to act on', async () => {
      const { runner, routes } = routed({ executor: localSandbox(isolation), limits: { fileBytes: 1_000 } });
      const ask = client(routes);
      const task = (await ask('POST', '/tasks', { name: 't', language: 'python', files: { a: '' } })).json;
      const at = `/tasks/${task.id}`;
      const cases: readonly (readonly [string, string, unknown, number, string, RegExp])[] = [
        ['POST', '/tasks', { name: 't', language: 'cobol' }, 422, 'unknown-language', /choose one of python/],
        ['POST', '/tasks', { language: 'python' }, 400, 'malformed-body', /name/],
        ['POST', '/tasks', '{', 400, 'malformed-body', /not valid JSON/],
        ['POST', `${at}/runs`, {}, 422, 'no-main-file', /setMain/],
        ['POST', `${at}/runs`, { argv: 'python3 a' }, 422, 'invalid-argument', /give a list of strings/],
        [
          'POST',
          `${at}/runs`,
          { argv: ['a'], limits: { memoryBytes: 0.5 } },
          422,
          'invalid-argument',
          /whole number of at least 16,777,216/,
        ],
        ['POST', `${at}/runs`, { argv: ['a'], limits: { memoryBytes: 2 ** 50 } }, 422, 'invalid-argument', /allows 536870912 at most/],
        ['PUT', `${at}/file?path=../x`, 'x', 422, 'invalid-path', /a part \.\./],
        ['PUT', `${at}/file`, 'x', 422, 'invalid-path', /empty/],
        ['PUT', `${at}/file?path=big`, 'x'.repeat(1_001), 413, 'limit-exceeded', /more than 1000 bytes/],
        ['PUT', `${at}/zip`, 'no zip', 422, 'invalid-zip', /not a readable zip archive/],
        ['GET', `${at}/file?path=gone`, undefined, 404, 'not-found', /no file gone/],
        ['GET', '/runs/1;drop', undefined, 404, 'not-found', /no run/],
        ['GET', '/runs/999/events', undefined, 404, 'not-found', /no run 999/],
        ['GET', '/nowhere', undefined, 404, 'not-found', /nothing at GET/],
      ];
      for (const [method, path, body, status, code, detail] of cases) {
        const { json, type } = await ask(method, path, body);
        expect(json, `${method} ${path}`).toMatchObject({
          status,
          code,
          detail: expect.stringMatching(detail),
          type: `https://holdfast.dev/errors/${code}`,
        });
        expect(type).toBe('application/problem+json');
      }
      const run = (await ask('POST', `${at}/runs`, { argv: ['true'] })).json;
      expect((await ask('POST', `${at}/runs`, { argv: ['true'] })).json).toMatchObject({ status: 409, code: 'live-run', runId: run.id });
      expect((await client(routes, 'bob')('GET', at)).status).toBe(404);
      expect((await routes.fetch(new Request('http://x/v1/runner/tasks'))).status).toBe(401);
      await runner.runs.terminate(run.id, { actor: 'alice' });
    });

    it('what is wrong with where programs run and files are kept is a problem too, with the sentence to act on', async () => {
      const ask = (options: Parameters<typeof suite.runner>[0]) => client(routed(options).routes)('GET', '/status');
      expect((await ask({})).json).toMatchObject({ files: 'the database', queue: 'the database' });
      const nobody = new S3Client({
        endpoint: 'http://127.0.0.1:9',
        region: 'x',
        credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
        maxAttempts: 1,
      });
      const cases: readonly (readonly [Parameters<typeof suite.runner>[0], string, RegExp])[] = [
        [
          { executor: localSandbox({ bubblewrap: '/no/such/bwrap' }) },
          'executor-unavailable',
          /There is no \/no\/such\/bwrap. Install bubblewrap/,
        ],
        [
          { executor: kubernetes({ namespace: 'x', kubeConfig: '/no/such/file' }) },
          'executor-unavailable',
          /kubeconfig \/no\/such\/file can't be read/,
        ],
        [{ files: s3Files({ client: nobody, bucket: 'b' }) }, 'file-store', /the bucket b/],
        ...(process.env.HOLDFAST_S3_URL
          ? [
              [
                { files: s3Files({ client: s3Client(), bucket: 'no-such-bucket' }) },
                'file-store',
                /There is no bucket no-such-bucket. Create it/,
              ] as const,
            ]
          : []),
      ];
      for (const [options, code, detail] of cases) {
        const { status, json, type } = await ask(options);
        expect({ status, type, ...json }).toMatchObject({
          status: 503,
          type: `https://holdfast.dev/errors/${code}`,
          code,
          detail: expect.stringMatching(detail),
        });
      }
    });

    it('an upload that is cut in the middle leaves nothing, over a real connection', async () => {
      const { runner, routes } = routed();
      const { port, server } = await serve(routes);
      try {
        const task = await runner.tasks.create({ actor: 'alice', name: 'cut', language: 'python' });
        const socket = connect(port, '127.0.0.1');
        socket.write(
          `PUT /v1/runner/tasks/${task.id}/file?path=half HTTP/1.1\r\nhost: x\r\nauthorization: alice\r\ncontent-length: 1000000\r\n\r\n${'x'.repeat(5_000)}`,
        );
        await new Promise((resolve) => setTimeout(resolve, 100));
        socket.resetAndDestroy();
        await new Promise((resolve) => setTimeout(resolve, 200));
        expect(await runner.tasks.get(task.id, { actor: 'alice' })).toMatchObject({ version: task.version, files: 2 });
      } finally {
        server.closeAllConnections();
        server.close();
      }
    });

    it('a file above its limit is refused over a real connection, which ends, since the rest of the file is in its way', async () => {
      const { runner, routes } = routed({ limits: { fileBytes: 1_000 } });
      const { port, server } = await serve(routes);
      try {
        const task = await runner.tasks.create({ actor: 'alice', name: 'large', language: 'python' });
        const socket = connect(port, '127.0.0.1');
        socket.write(
          `PUT /v1/runner/tasks/${task.id}/file?path=large HTTP/1.1\r\nhost: x\r\nauthorization: alice\r\ncontent-length: 1000000\r\n\r\n${'x'.repeat(5_000)}`,
        );
        const answer: Uint8Array[] = [];
        for await (const chunk of socket) answer.push(chunk);
        expect(Buffer.concat(answer).toString()).toMatch(/^HTTP\/1\.1 413 [\s\S]*connection: close[\s\S]*"code":"limit-exceeded"/);
      } finally {
        server.closeAllConnections();
        server.close();
      }
    });

    it('a JSON body above 1 MiB, or above the limit of the routes, is refused', async () => {
      const { runner, routes } = routed();
      const task = (bytes: number) => JSON.stringify({ name: 't', language: 'python' }).padEnd(bytes, ' ');
      expect((await client(routes)('POST', '/tasks', task(1_048_576))).status).toBe(201);
      expect((await client(routes)('POST', '/tasks', task(1_048_577))).json).toMatchObject({ status: 413, code: 'body-too-large' });
      const smaller = runner.routes({ basePath: '/v1/runner', actor: () => 'alice', maxBodyBytes: 100 });
      expect((await client(smaller)('POST', '/tasks', task(101))).status).toBe(413);
    });

    it('whoever `actor` does not accept gets 401, also where it throws', async () => {
      const { runner } = routed();
      for (const actor of [() => undefined, () => Promise.reject(new Error('no')), () => JSON.parse('{')]) {
        const answer = await client(runner.routes({ basePath: '/v1/runner', actor }))('GET', '/tasks');
        expect(answer.json).toMatchObject({ status: 401, code: 'unauthorized', title: 'Unauthorized' });
      }
      const hanging = runner.routes({ basePath: '/v1/runner', actor: () => new Promise(() => undefined), callTimeout: 20 });
      expect((await client(hanging)('GET', '/tasks')).json).toMatchObject({ status: 503, code: 'call-timeout' });
    });

    it('the document names every route, and its references lead somewhere', async () => {
      const { routes } = routed();
      const { json } = await client(routes)('GET', '/openapi.json');
      const ids = Object.values(json.paths as Record<string, Record<string, { operationId: string }>>).flatMap((path) =>
        Object.values(path).map(({ operationId }) => operationId),
      );
      expect(ids.sort()).toEqual([...operations.map(({ id }) => id as string), 'openapi'].sort());
      const responses = Object.values(json.paths as Record<string, Record<string, { responses: Record<string, { content: object }> }>>)
        .flatMap((path) => Object.values(path))
        .flatMap(({ responses }) => Object.entries(responses));
      const problems = responses.filter(([status]) => !status.startsWith('2'));
      expect(problems).toHaveLength(ids.length);
      for (const [, { content }] of problems) expect(Object.keys(content)).toEqual(['application/problem+json']);
      for (const [, pattern] of JSON.stringify(json).matchAll(/"pattern":("(?:[^"\\]|\\.)*")/g))
        expect(new RegExp(JSON.parse(pattern ?? '""')).source).not.toMatch(/\\p/i);
      const references = [...JSON.stringify(json).matchAll(/"#\/components\/schemas\/(\w+)"/g)];
      expect(references.length).toBeGreaterThan(ids.length);
      for (const [, name] of references) expect(json.components.schemas[name ?? ''], name).toBeDefined();
    });
  },
  ['sqlite', 'postgres'],
);
