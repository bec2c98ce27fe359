import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { foldedPath, foldersOf } from '../src/files/path.ts';
import type { CodeRunner, Task, TreeNode } from '../src/index.ts';
import { readZip } from '../src/zip/read-zip.ts';
import { alice, onEveryDatabase, textOf } from './suite.ts';

function paths(nodes: readonly TreeNode[]): string[] {
  return nodes.flatMap((node) => (node.isLeaf ? [node.path] : paths(node.children)));
}

onEveryDatabase('files of a task', (suite) => {
  const made = (runner: CodeRunner, files: Record<string, string> = {}): Promise<Task> =>
    runner.tasks.create({ ...alice, name: 'files', language: 'python', files });

  it('a new task is what its language says, with a draft', async () => {
    const runner = suite.runner();
    const task = await runner.tasks.create({ ...alice, name: 'first', language: 'python' });
    expect(task).toMatchObject({ owner: 'alice', main: 'run.py', files: 2, version: 1 });
    expect(paths(await runner.files.tree(task.id, alice))).toEqual(['run.py', 'run.sh']);
    const runs = await runner.runs.list(alice, { taskId: task.id, drafts: true });
    expect(runs).toMatchObject([{ id: task.draftRunId, state: 0, phase: 'draft' }]);
    expect(await runner.tasks.list(alice)).toMatchObject([{ id: task.id }]);
    expect(await runner.tasks.list({ actor: 'bob' })).toEqual([]);
  });

  it('is written, read, renamed, moved and removed; folders go along', async () => {
    const runner = suite.runner();
    const { id } = await made(runner, { 'src/a.py': 'a', 'src/lib/b.py': 'bb', 'run.sh': 'sh' });
    expect(await runner.files.write(id, 'src/c.py', 'ccc', alice)).toEqual({ path: 'src/c.py', size: 3, version: 1 });
    expect(await runner.files.write(id, 'src/c.py', Readable.from([Buffer.from('cc'), Buffer.from('cc')]), alice)).toMatchObject({
      size: 4,
      version: 2,
    });
    const read = await runner.files.read(id, 'src/c.py', alice);
    expect([await textOf(read.content), read.version]).toEqual(['cccc', 2]);
    expect(await runner.files.rename(id, 'src', 'Src', alice)).toBe(3);
    expect(await runner.files.rename(id, 'Src/lib', 'Src', alice).catch((error) => error.code)).toBe(1);
    expect(paths(await runner.files.tree(id, alice))).toEqual(['Src/a.py', 'Src/b.py', 'Src/c.py', 'run.sh']);
    await runner.files.setMain(id, 'Src/a.py', alice);
    await runner.files.rename(id, 'Src', 'deep/er', alice);
    expect((await runner.tasks.get(id, alice)).main).toBe('deep/er/a.py');
    // Each place is another's old one.
    await runner.files.rename(id, 'deep', 'deep/er', alice).catch(() => undefined);
    await expect(runner.files.rename(id, 'deep', 'deep/er', alice)).rejects.toThrow(/into itself/);
    expect(await runner.files.remove(id, 'deep', alice)).toBe(3);
    expect(await runner.tasks.get(id, alice)).toMatchObject({ main: null, files: 1, bytes: 2 });
    const [node] = await runner.files.tree(id, alice, { content: true });
    expect(node).toMatchObject({ name: 'run.sh', content: 'sh', fileType: 'sh', fileSize: 2, isLeaf: true, main: false });
  });

  it('a lost update is refused, and one of two that write at once is told', async () => {
    const runner = suite.runner();
    const { id } = await made(runner);
    await runner.files.write(id, 'a', '1', { ...alice, ifVersion: 0 });
    await expect(runner.files.write(id, 'a', '2', { ...alice, ifVersion: 0 })).rejects.toMatchObject({ code: 'version-conflict' });
    const both = await Promise.allSettled(['x', 'y'].map((text) => runner.files.write(id, 'a', text, { ...alice, ifVersion: 1 })));
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    await expect(runner.files.write(id, 'gone', '', { ...alice, ifVersion: 3 })).rejects.toThrow(/does not exist/);
  });

  it('places that meet are refused, whoever comes second', async () => {
    const runner = suite.runner();
    const { id } = await made(runner, { 'a/b': '1' });
    for (const path of ['A/b', 'a/B', 'a', 'A', 'a/b/c', 'A/x'])
      await expect(runner.files.write(id, path, 'x', alice), path).rejects.toMatchObject({ code: 'invalid-path' });
    await runner.files.write(id, 'a/b2', '', alice);
    await expect(runner.files.rename(id, 'a/b2', 'a/B', alice)).rejects.toMatchObject({ code: 'invalid-path' });
    await expect(runner.files.rename(id, 'a/b2', 'a/b/c', alice)).rejects.toMatchObject({ code: 'invalid-path' });
  });

  it('every operation refuses every path that leads out, and changes nothing', async () => {
    const runner = suite.runner();
    const { id } = await made(runner, { keep: 'kept' });
    const before = (await runner.tasks.get(id, alice)).version;
    const nul = String.fromCharCode(0);
    const segment = fc.constantFrom('..', '.', '', 'a', 'etc', 'a\\..', nul, 'c:', '\u202e', 'x ', 'y'.repeat(256));
    const evil = fc
      .tuple(
        fc.constantFrom('../', '/', '', './', 'C:\\', '\\\\host\\'),
        fc.array(segment, { minLength: 1, maxLength: 5 }),
        fc.constantFrom('', '/', '/..'),
      )
      .map(([start, middle, end]) => `${start}${middle.join('/')}${end}`)
      .filter((path) => !/^(a|etc)(\/(a|etc|c:))*$/.test(path));
    await fc.assert(
      fc.asyncProperty(evil, async (path) => {
        const refusals = await Promise.all(
          [
            runner.files.write(id, path, 'x', alice),
            runner.files.read(id, path, alice),
            runner.files.remove(id, path, alice),
            runner.files.rename(id, 'keep', path, alice),
            runner.files.rename(id, path, 'other', alice),
            runner.files.setMain(id, path, alice),
            runner.tasks.create({ ...alice, name: 'evil', language: 'python', files: { [path]: '' } }),
            runner.tasks.create({ ...alice, name: 'evil', language: 'python', dataSets: [{ path, object: 'x' }] }),
          ].map((done) =>
            done.then(
              () => 'accepted',
              (error) => error.code,
            ),
          ),
        );
        expect(refusals).toEqual(refusals.map(() => 'invalid-path'));
      }),
      { numRuns: 60 },
    );
    expect((await runner.tasks.get(id, alice)).version).toBe(before);
  });

  it('limits hold while many write at once: files, bytes of one, bytes of all', async () => {
    const runner = suite.runner({ limits: { fileBytes: 1_000, files: 10, taskBytes: 5_000 } });
    const { id } = await made(runner);
    await expect(runner.files.write(id, 'a', 'x'.repeat(1_001), alice)).rejects.toMatchObject({ code: 'limit-exceeded' });
    const big = await Promise.allSettled(Array.from({ length: 9 }, (_, i) => runner.files.write(id, `f${i}`, 'x'.repeat(900), alice)));
    for (const one of big) if (one.status === 'rejected') expect(one.reason).toMatchObject({ code: 'limit-exceeded' });
    expect(big.filter(({ status }) => status === 'fulfilled')).toHaveLength(5);
    expect(await runner.tasks.get(id, alice)).toMatchObject({ bytes: 4_500, files: 5 });
    await Promise.allSettled(Array.from({ length: 9 }, (_, i) => runner.files.write(id, `g${i}`, '', alice)));
    expect((await runner.tasks.get(id, alice)).files).toBe(10);
    const tree = await runner.files.tree(id, alice);
    expect(tree.reduce((sum, { fileSize }) => sum + fileSize, 0)).toBe(4_500);
  });

  it('an upload that breaks off leaves nothing', async () => {
    const runner = suite.runner();
    const { id, version } = await made(runner, { a: 'before' });
    const cut = async function* (): AsyncGenerator<Buffer> {
      yield Buffer.alloc(2_000_000);
      throw new Error('socket hang up');
    };
    await expect(runner.files.write(id, 'a', cut(), alice)).rejects.toMatchObject({ code: 'upload-cut' });
    await expect(runner.files.importZip(id, cut(), alice)).rejects.toMatchObject({ code: 'upload-cut' });
    expect((await runner.tasks.get(id, alice)).version).toBe(version);
    expect(await textOf((await runner.files.read(id, 'a', alice)).content)).toBe('before');
  });

  it('large files stream in and out', async () => {
    const runner = suite.runner();
    const { id } = await made(runner);
    const bytes = Buffer.alloc(5_000_000, 'abcdefg');
    await runner.files.write(id, 'large.bin', Readable.from([bytes.subarray(0, 3_333_333), bytes.subarray(3_333_333)]), alice);
    expect((await buffer((await runner.files.read(id, 'large.bin', alice)).content)).equals(bytes)).toBe(true);
  });

  it('an archive comes in whole or not at all, and goes out as it came', async () => {
    const runner = suite.runner();
    const one = await made(runner, { 'a.py': 'a', 'src/b.py': 'b', 'src/über.txt': 'ü'.repeat(40_000) });
    const zip = await buffer(await runner.files.exportZip(one.id, alice));
    const two = await made(runner, { 'a.py': 'old', other: 'stays' });
    expect(await runner.files.importZip(two.id, zip, alice)).toBe(3);
    expect(paths(await runner.files.tree(two.id, alice))).toEqual(['src/b.py', 'src/über.txt', 'a.py', 'other']);
    expect(await textOf((await runner.files.read(two.id, 'a.py', alice)).content)).toBe('a');
    expect(await runner.files.importZip(two.id, zip, { ...alice, replace: true })).toBe(3);
    expect(await runner.tasks.get(two.id, alice)).toMatchObject({ files: 3, bytes: one.bytes });
    const again = await readZip(await buffer(await runner.files.exportZip(two.id, alice)));
    expect(again.entries.map(({ path }) => path).sort()).toEqual(['a.py', 'src/b.py', 'src/über.txt']);
    again.close();
    const clash = await made(runner, { 'src/B.py': '' });
    await expect(runner.files.importZip(clash.id, zip, alice)).rejects.toMatchObject({ code: 'invalid-path' });
    expect((await runner.tasks.get(clash.id, alice)).files).toBe(1);
  });

  it('an `authorize` that never answers fails the call, and is told', async () => {
    const reasons: unknown[] = [];
    const hanging = suite.runner({
      callTimeout: 20,
      authorize: (_actor, _action, _resource, signal) => {
        signal.addEventListener('abort', () => reasons.push(signal.reason));
        return new Promise(() => undefined);
      },
    });
    const { id } = await made(suite.runner(), { a: '' });
    await expect(hanging.tasks.get(id, alice)).rejects.toMatchObject({ code: 'call-timeout', retryable: true });
    expect(reasons).toMatchObject([{ code: 'call-timeout' }]);
  });

  it('others may not, and do not even learn that there is something', async () => {
    const runner = suite.runner();
    const { id } = await made(runner, { a: '' });
    const bob = { actor: 'bob' };
    const refusals = await Promise.allSettled([
      runner.tasks.get(id, bob),
      runner.files.tree(id, bob),
      runner.files.write(id, 'b', '', bob),
      runner.runs.submit(id, bob),
      runner.tasks.remove(id, bob),
      runner.tasks.get('9999', alice),
      runner.tasks.get('1 OR 1=1', alice),
    ]);
    for (const refused of refusals) expect(refused).toMatchObject({ status: 'rejected', reason: { code: 'not-found' } });
    const readers = suite.runner({ authorize: (actor, action, { owner }) => actor === owner || action === 'read' });
    expect(await readers.files.tree(id, bob)).toHaveLength(1);
    await expect(readers.files.write(id, 'b', '', bob)).rejects.toMatchObject({ code: 'forbidden' });
    await expect(runner.tasks.get(id, {} as never)).rejects.toThrow(/names no actor/);
  });

  it('any series of edits leaves what a model says, and never two files in one place', async () => {
    const runner = suite.runner();
    const name = fc.constantFrom('a', 'A', 'b', 'a/b', 'a/c', 'A/c', 'b/c/d', 'a/b/c', 'ß', 'SS');
    const edit = fc.oneof(
      fc.record({ op: fc.constant('write' as const), path: name, text: fc.string({ maxLength: 5 }) }),
      fc.record({ op: fc.constant('remove' as const), path: name }),
      fc.record({ op: fc.constant('rename' as const), path: name, to: name }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(edit, { maxLength: 12 }), async (edits) => {
        const { id } = await made(runner);
        let model = new Map<string, string>();
        for (const one of edits) {
          const under = (path: string): boolean => path === one.path || path.startsWith(`${one.path}/`);
          let next: Map<string, string> | undefined = new Map(model);
          if (one.op === 'write') next.set(one.path, one.text);
          else if (![...model.keys()].some(under)) next = undefined;
          else if (one.op === 'remove') next = new Map([...model].filter(([path]) => !under(path)));
          else {
            const moved = [...model].map(([path, text]) => [under(path) ? `${one.to}${path.slice(one.path.length)}` : path, text] as const);
            next = new Map(moved);
            if (next.size !== moved.length || one.to.startsWith(`${one.path}/`)) next = undefined;
          }
          if (next && !fits([...next.keys()])) next = undefined;
          const done = await (one.op === 'write'
            ? runner.files.write(id, one.path, one.text, alice)
            : one.op === 'remove'
              ? runner.files.remove(id, one.path, alice)
              : runner.files.rename(id, one.path, one.to, alice)
          ).then(
            () => true,
            () => false,
          );
          expect(done, JSON.stringify([...model, one])).toBe(next !== undefined);
          model = next ?? model;
        }
        expect(paths(await runner.files.tree(id, alice)).sort()).toEqual([...model.keys()].sort());
        const { files, bytes } = await runner.tasks.get(id, alice);
        expect([files, bytes]).toEqual([model.size, [...model.values()].reduce((sum, text) => sum + Buffer.byteLength(text), 0)]);
      }),
      { numRuns: 40 },
    );
  });
});

/** The rule, said another way than the code does. */
function fits(all: readonly string[]): boolean {
  const places = new Map<string, string>();
  for (const path of all)
    for (const place of [...foldersOf(path).map((folder) => `${folder}/`), path]) {
      const folded = foldedPath(place.replace(/\/$/, ''));
      const known = places.get(folded);
      if (known !== undefined && (known !== place || known === path)) return false;
      places.set(folded, place);
    }
  return true;
}
