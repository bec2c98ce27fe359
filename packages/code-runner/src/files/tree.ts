import { InvalidPathError } from '../errors.ts';
import { fileTypeOf, foldedPath, foldersOf } from './path.ts';

/** A file from which a tree is built. */
export interface TreeFile {
  readonly id: string;
  readonly path: string;
  /** In bytes. */
  readonly size: number;
  readonly content?: string | undefined;
}

/** A file or a folder, for display. A folder exists as long as it contains files. */
export interface TreeNode {
  /** Id of the file; for a folder, its path followed by `/`. */
  readonly id: string;
  readonly name: string;
  readonly path: string;
  readonly content?: string | undefined;
  /** The text after the last dot of a file's name; empty for folders. */
  readonly fileType: string;
  /** In bytes; for a folder, the sum of its files. */
  readonly fileSize: number;
  readonly isLeaf: boolean;
  /** True if runs start this file. */
  readonly main: boolean;
  readonly children: readonly TreeNode[];
}

/** Builds a tree of files: folders first, then by name. */
export function fileTree(files: readonly TreeFile[], main: string | undefined): readonly TreeNode[] {
  return level(files, '', main);
}

function level(files: readonly TreeFile[], folder: string, main: string | undefined): TreeNode[] {
  const folders = new Map<string, TreeFile[]>();
  const leaves: TreeNode[] = [];
  for (const file of files) {
    const rest = file.path.slice(folder.length);
    const slash = rest.indexOf('/');
    if (slash < 0) {
      const { id, path, size, content } = file;
      leaves.push({
        id,
        name: rest,
        path,
        ...(content === undefined ? {} : { content }),
        fileType: fileTypeOf(path),
        fileSize: size,
        isLeaf: true,
        main: path === main,
        children: [],
      });
    } else {
      const name = rest.slice(0, slash);
      const inside = folders.get(name);
      if (inside) inside.push(file);
      else folders.set(name, [file]);
    }
  }
  const nodes = [...folders].map(([name, inside]): TreeNode => {
    const path = `${folder}${name}`;
    const children = level(inside, `${path}/`, main);
    const fileSize = children.reduce((sum, child) => sum + child.fileSize, 0);
    return { id: `${path}/`, name, path, fileType: '', fileSize, isLeaf: false, main: false, children };
  });
  const byName = (a: TreeNode, b: TreeNode): number => (a.name < b.name ? -1 : 1);
  return [...nodes.sort(byName), ...leaves.sort(byName)];
}

/**
 * Checks that files can exist together: no two paths that a file system can't distinguish, and no file with the path of a folder.
 * @throws InvalidPathError that names both
 */
export function checkTogether(paths: readonly string[]): void {
  const files = new Map<string, string>();
  for (const path of paths) {
    const known = files.get(foldedPath(path));
    if (known !== undefined)
      throw new InvalidPathError(
        known === path
          ? `The file ${path} exists already.`
          : `${path} and ${known} differ in upper and lower case only, which some systems can't tell apart. Rename one.`,
      );
    files.set(foldedPath(path), path);
  }
  const folders = new Map<string, string>();
  for (const path of paths)
    for (const folder of foldersOf(path)) {
      const folded = foldedPath(folder);
      const file = files.get(folded);
      if (file !== undefined) throw new InvalidPathError(`${path} needs a folder where the file ${file} is. Rename or move one.`);
      const spelled = folders.get(folded);
      if (spelled !== undefined && spelled !== folder)
        throw new InvalidPathError(`The folders ${folder} and ${spelled} differ in upper and lower case only. Rename one.`);
      folders.set(folded, folder);
    }
}
