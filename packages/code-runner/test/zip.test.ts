import { once } from 'node:events';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ZipFile } from 'yazl';
import { filePath } from '../src/files/path.ts';
import { readZip } from '../src/zip/read-zip.ts';
import { writeZip } from '../src/zip/write-zip.ts';

const at = new Date('2026-01-02T03:04:06Z');

async function archive(files: Readonly<Record<string, string | Buffer>>, mode = 0o100644): Promise<Buffer> {
  const zip = new ZipFile();
  for (const [path, content] of Object.entries(files)) zip.addBuffer(Buffer.from(content), path, { mtime: at, mode });
  zip.end();
  return buffer(zip.outputStream);
}

/** The archive with other bytes for a name, as no tool would write it. */
function renamed(zip: Buffer, from: string, to: string): Buffer {
  return Buffer.from(zip.toString('latin1').replaceAll(from, Buffer.from(to).toString('latin1')), 'latin1');
}

describe('an archive', () => {
  it('that was written is read back, byte by byte', async () => {
    const files: Record<string, Buffer> = {
      'run.py': Buffer.from('print(1)'),
      'src/数据.txt': Buffer.alloc(300_000, 'ab'),
      empty: Buffer.alloc(0),
    };
    const zip = await buffer(
      writeZip(
        Object.entries(files).map(([path, content]) => ({ path, open: async () => Readable.from([content]) })),
        at,
      ),
    );
    const { entries, close } = await readZip(zip);
    expect(entries.map(({ path }) => path)).toEqual(Object.keys(files));
    for (const { path, open } of entries) expect((await buffer(await open())).equals(files[path] ?? Buffer.alloc(1)), path).toBe(true);
    close();
  });

  it.each(['before its first byte', 'after some bytes'])('with a file that fails %s fails with the error of the file', async (when) => {
    async function* content() {
      if (when === 'after some bytes') yield Buffer.alloc(200_000, 'ab');
      throw new Error('the connection was lost');
    }
    const files = [{ path: 'a', open: async () => Readable.from(content(), { objectMode: false }) }];
    await expect(buffer(writeZip(files, at))).rejects.toThrow('the connection was lost');
  });

  it('whose reader leaves closes the file that is open, and opens no other', async () => {
    const opened: Readable[] = [];
    const files = ['a', 'b'].map((path) => ({
      path,
      open: async () => {
        const stream = new Readable({ read: () => undefined });
        stream.push(Buffer.alloc(1000));
        opened.push(stream);
        return stream;
      },
    }));
    const zip = writeZip(files, at);
    await once(zip, 'readable');
    zip.destroy();
    await once(zip, 'close');
    expect(opened.map((stream) => stream.destroyed)).toEqual([true]);
  });

  it.each([
    ['../../etc/passwd', 'xx/yy/etc/passwd'],
    ['/absolute', 'xabsolute'],
    ['back\\slash', 'backxslash'],
    ['C:/windows', 'Cx/windows'],
    ['nul\u0000l', 'nulxl'],
    ['a/./b', 'a/x/b'],
  ])('with the name %j is refused', async (name, harmless) => {
    await expect(readZip(renamed(await archive({ [harmless]: 'x' }), harmless, name))).rejects.toMatchObject({
      code: expect.stringMatching(/^invalid-(path|zip)$/),
    });
  });

  it.each([
    [0o120777, /symbolic link/],
    [0o020644, /device/],
    [0o060644, /device/],
    [0o010644, /pipe/],
    [0o140644, /socket/],
  ])('with a file of mode %o is refused', async (mode, why) => {
    await expect(readZip(await archive({ link: '/etc/passwd' }, mode))).rejects.toThrow(why);
  });

  it('with names that meet is refused', async () => {
    await expect(readZip(renamed(await archive({ 'a.py': '1', 'b.py': '2' }), 'b.py', 'a.py'))).rejects.toThrow(/twice/);
    await expect(readZip(await archive({ 'a.py': '1', 'A.py': '2' }))).rejects.toThrow(/upper and lower case/);
    await expect(readZip(await archive({ a: '1', 'a/b': '2' }))).rejects.toThrow(/a file and a folder/);
  });

  it('that would grow too much is refused before a byte is inflated, one that lies about it while it is', async () => {
    const bomb = await archive({ 'zeros.bin': Buffer.alloc(8 * 2 ** 20) });
    await expect(readZip(bomb)).rejects.toThrow(/times its packed size/);
    await expect(readZip(bomb, { ratio: 100_000, fileBytes: 2 ** 20 })).rejects.toThrow(/at most 1048576/);
    await expect(readZip(bomb, { ratio: 100_000, totalBytes: 2 ** 20, fileBytes: 2 ** 24 })).rejects.toThrow(/together/);
    await expect(
      readZip(await archive(Object.fromEntries(Array.from({ length: 11 }, (_, i) => [`f${i}`, '']))), { entries: 10 }),
    ).rejects.toThrow(/11 entries/);
    // 8 MiB that say to be 100 bytes.
    const lying = Buffer.from(bomb);
    const central = lying.indexOf(Buffer.from('PK\u0001\u0002', 'latin1'));
    lying.writeUInt32LE(100, central + 24);
    const { entries } = await readZip(lying);
    await expect(buffer((await entries[0]?.open()) as Readable)).rejects.toMatchObject({ code: 'invalid-zip' });
  });

  it('that is broken says where', async () => {
    await expect(readZip(Buffer.from('no zip'))).rejects.toMatchObject({ code: 'invalid-zip' });
    const zip = await archive({ 'a.txt': 'hello hello hello hello' });
    await expect(readZip(zip.subarray(0, zip.length - 30))).rejects.toMatchObject({ code: 'invalid-zip' });
    const other = Buffer.from(zip);
    const central = other.indexOf(Buffer.from('PK\u0001\u0002', 'latin1'));
    other.writeUInt32LE(0x12345678, central + 16);
    const { entries } = await readZip(other);
    await expect(buffer((await entries[0]?.open()) as Readable)).rejects.toThrow(/checksum/);
  });

  it('of any bytes is read within its limits or refused by name, and nothing else happens', async () => {
    const good = await archive({ 'a.txt': 'hello '.repeat(50), 'dir/b.bin': Buffer.alloc(5_000, 7), c: '' });
    const limits = { entries: 5, fileBytes: 10_000, totalBytes: 12_000 };
    const flips = fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 });
    const cut = fc.nat(good.length);
    let [read, refused] = [0, 0];
    await fc.assert(
      fc.asyncProperty(flips, cut, fc.boolean(), async (changes, length, whole) => {
        const bytes = Buffer.from(whole ? good : good.subarray(0, length));
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        try {
          const zip = await readZip(bytes, limits);
          let total = 0;
          try {
            for (const { path, size, open } of zip.entries) {
              expect(filePath(path)).toBe(path);
              const content = await buffer(await open());
              expect(content.length).toBe(size);
              total += content.length;
            }
          } finally {
            zip.close();
          }
          expect(total).toBeLessThanOrEqual(limits.totalBytes);
          read += 1;
        } catch (error) {
          expect((error as { code?: string }).code, String((error as Error).stack)).toMatch(/^invalid-(zip|path)$/);
          refused += 1;
        }
      }),
      { numRuns: 400 },
    );
    expect(read).toBeGreaterThan(10);
    expect(refused).toBeGreaterThan(10);
  });
});
