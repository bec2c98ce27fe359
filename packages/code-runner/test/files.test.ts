import { describe, expect, it } from 'vitest';
import { filePath, fileTypeOf, foldedPath } from '../src/files/path.ts';
import { checkTogether, fileTree } from '../src/files/tree.ts';

describe('a path', () => {
  it.each([
    ['', /it is empty/],
    ['a\ud800b', /half of a surrogate pair/],
    ['a\u0000b', /control character/],
    ['a\nb', /control character/],
    ['a\u009fb', /control character/],
    ['evil\u202egpj.py', /direction of text/],
    ['a\u2066b', /direction of text/],
    ['a\\b', /backslash/],
    ['/etc/passwd', /starts with \//],
    ['C:/x', /drive/],
    ['c:x', /drive/],
    ['a//b', /empty part/],
    ['a/', /empty part/],
    ['./a', /a part \./],
    ['a/../b', /a part \.\./],
    ['a/b.', /ends with a dot or a space/],
    ['a /b', /ends with a dot or a space/],
    ['x'.repeat(256), /has 256 bytes; at most 255/],
    ['ä'.repeat(128), /has 256 bytes/],
    [Array(33).fill('a').join('/'), /33 levels/],
    [Array(6).fill('x'.repeat(200)).join('/'), /at most 1024/],
  ])('%j is refused with its rule', (path, why) => {
    expect(() => filePath(path)).toThrow(why);
    expect(() => filePath(path)).toThrow(expect.objectContaining({ code: 'invalid-path' }));
  });

  it('is kept in NFC, and may be what people use', () => {
    expect(filePath('u\u0308ber/Datei 1.py')).toBe('über/Datei 1.py');
    for (const path of ['run.py', 'src/.env', '数据/😀.r', 'ab:c', 'Makefile', `${'x'.repeat(255)}`]) expect(filePath(path)).toBe(path);
    expect([fileTypeOf('a.tar.gz'), fileTypeOf('b/Makefile'), fileTypeOf('.env'), fileTypeOf('x.')]).toEqual(['gz', '', '', '']);
  });

  it('is one with those that differ in case only, in every script', () => {
    for (const [one, other] of [
      ['Run.py', 'run.PY'],
      ['straße', 'STRASSE'],
      ['ΟΔΟΣ', 'οδος'],
      ['ﬁle', 'FIle'],
      ['Ärger', 'ärger'],
    ] as const)
      expect(foldedPath(one), one).toBe(foldedPath(other));
    expect(() => checkTogether(['a/Run.py', 'A/run.py'])).toThrow(/upper and lower case only/);
    expect(() => checkTogether(['a', 'a'])).toThrow(/already/);
    expect(() => checkTogether(['a', 'A/b'])).toThrow(/needs a folder where the file a is/);
    expect(() => checkTogether(['a/b', 'a/c', 'b/a'])).not.toThrow();
  });
});

describe('a tree', () => {
  it('has folders first, sizes summed, and one main file', () => {
    const tree = fileTree(
      [
        { id: '1', path: 'run.sh', size: 10 },
        { id: '2', path: 'src/b.py', size: 5, content: 'print' },
        { id: '3', path: 'src/lib/a.py', size: 7 },
      ],
      'src/b.py',
    );
    expect(tree.map(({ path, fileSize, isLeaf }) => [path, fileSize, isLeaf])).toEqual([
      ['src', 12, false],
      ['run.sh', 10, true],
    ]);
    expect(tree[0]?.children.map(({ path, main, content, fileType }) => [path, main, content, fileType])).toEqual([
      ['src/lib', false, undefined, ''],
      ['src/b.py', true, 'print', 'py'],
    ]);
  });
});
