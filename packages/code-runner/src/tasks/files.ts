import type { Readable } from 'node:stream';
import { InvalidArgumentError } from '@holdfast/core';
import type { As } from '../access.ts';
import { InvalidPathError, NotFoundError } from '../errors.ts';
import { filePath } from '../files/path.ts';
import { checkTogether, fileTree, type TreeNode } from '../files/tree.ts';
import type { Blobs } from '../store/blobs.ts';
import { type Content, spool } from '../store/spool.ts';
import { readZip } from '../zip/read-zip.ts';
import { spoolZip } from '../zip/spool-zip.ts';
import { writeZip } from '../zip/write-zip.ts';
import type { FileRow } from './file-table.ts';
import type { TaskLimits } from './limits.ts';
import type { TaskTable } from './task-table.ts';
import type { Tasks } from './tasks.ts';

export interface FilesOptions {
  readonly tasks: Tasks;
  readonly table: TaskTable;
  readonly blobs: Blobs;
  readonly limits: TaskLimits;
}

/** A file of a task, with its content. */
export interface ReadFile {
  readonly path: string;
  /** In bytes. */
  readonly size: number;
  /** Grows with each write; pass it to `write` as `ifVersion`. */
  readonly version: number;
  /** SHA-256 of the content, in hex. */
  readonly hash: string;
  readonly content: Readable;
}

/** Contents with more bytes are left out of a tree. */
const shownBytes = 262_144;

/** Reads and writes the files of tasks. */
export class TaskFiles {
  readonly #options: FilesOptions;

  constructor(options: FilesOptions) {
    this.#options = options;
  }

  /** Returns all files as a tree. With `content`, text files of up to 256 KiB have their content. @throws NotFoundError, ForbiddenError */
  async tree(taskId: string, as: As, options: { readonly content?: boolean } = {}): Promise<readonly TreeNode[]> {
    const task = await this.#options.tasks.allowed(taskId, as, 'read');
    const files = await this.#options.table.files.all(taskId);
    const shown: { id: string; path: string; size: number; content?: string | undefined }[] = [];
    for (const { id, path, size, blob } of files)
      shown.push({ id, path, size, ...(options.content && size <= shownBytes ? { content: await this.#text(blob) } : {}) });
    return fileTree(shown, task.main ?? undefined);
  }

  /** @throws NotFoundError, ForbiddenError, InvalidPathError */
  async read(taskId: string, path: string, as: As): Promise<ReadFile> {
    await this.#options.tasks.allowed(taskId, as, 'read');
    const file = await this.#file(taskId, path);
    return { path: file.path, size: file.size, version: file.version, hash: file.blob, content: await this.#options.blobs.open(file.blob) };
  }

  /**
   * Writes a whole file. With `ifVersion`, only if the file still has that version; 0 means that it does not exist yet. Returns the new
   * version.
   * @throws NotFoundError, ForbiddenError, InvalidPathError, LimitExceededError, VersionConflictError, UploadCutError, FileStoreError
   */
  async write(
    taskId: string,
    path: string,
    content: Content,
    as: As & { readonly ifVersion?: number | undefined },
  ): Promise<{ readonly path: string; readonly size: number; readonly version: number }> {
    const { tasks, table, blobs, limits } = this.#options;
    await tasks.allowed(taskId, as, 'edit');
    const clean = filePath(path);
    if (as.ifVersion !== undefined && !(Number.isInteger(as.ifVersion) && as.ifVersion >= 0))
      throw new InvalidArgumentError(`ifVersion is ${as.ifVersion}; give the version that read returned, or 0.`);
    await using spooled = await spool(content, limits.fileBytes, clean);
    const written = { path: clean, blob: spooled.hash, size: spooled.size, ifVersion: as.ifVersion };
    // Stored before the row refers to it: the sweep removes content without a row.
    const file = await blobs.whileKept([spooled], () =>
      table.edit(taskId, async (sql) => {
        await blobs.refer(sql, [spooled.hash]);
        const { file: result, change } = await table.files.write(sql, taskId, written);
        return { result, change };
      }),
    );
    return { path: file.path, size: file.size, version: file.version };
  }

  /**
   * Renames or moves a file, or a folder with its contents. Returns the number of files.
   * @throws NotFoundError, InvalidPathError, ForbiddenError
   */
  async rename(taskId: string, from: string, to: string, as: As): Promise<number> {
    const { tasks, table } = this.#options;
    await tasks.allowed(taskId, as, 'edit');
    const [source, target] = [filePath(from), filePath(to)];
    return table.edit(taskId, async (sql, task) => {
      const all = await table.files.all(taskId, sql);
      const moves: { file: FileRow; path: string }[] = [];
      const paths = all.map((file) => {
        const inside = file.path.startsWith(`${source}/`);
        if (file.path !== source && !inside) return file.path;
        const path = filePath(`${target}${file.path.slice(source.length)}`);
        moves.push({ file, path });
        return path;
      });
      if (moves.length === 0) throw new NotFoundError(`There is no file or folder ${source}.`);
      if (target.startsWith(`${source}/`)) throw new InvalidPathError(`The folder ${source} can't be moved into itself (${target}).`);
      checkTogether(paths);
      await table.files.move(sql, moves);
      const main = moves.find(({ file }) => file.path === task.main)?.path;
      if (main !== undefined) await table.set(sql, taskId, { main_path: main });
      return { result: moves.length };
    });
  }

  /** Removes a file, or a folder with its contents. Returns the number of files. @throws NotFoundError, ForbiddenError */
  async remove(taskId: string, path: string, as: As): Promise<number> {
    const { tasks, table } = this.#options;
    await tasks.allowed(taskId, as, 'edit');
    const clean = filePath(path);
    return table.edit(taskId, async (sql, task) => {
      const files = await table.files.under(sql, taskId, clean);
      if (files.length === 0) throw new NotFoundError(`There is no file or folder ${clean}.`);
      await table.files.remove(sql, files);
      if (files.some((file) => file.path === task.main)) await table.set(sql, taskId, { main_path: null });
      const bytes = files.reduce((sum, { size }) => sum + size, 0);
      return { result: files.length, change: { files: -files.length, bytes: -bytes } };
    });
  }

  /** Chooses the file that runs start. @throws NotFoundError, ForbiddenError */
  async setMain(taskId: string, path: string, as: As): Promise<void> {
    const { tasks, table } = this.#options;
    await tasks.allowed(taskId, as, 'edit');
    const clean = filePath(path);
    await table.edit(taskId, async (sql) => {
      if (!(await table.files.find(taskId, clean, sql))) throw new NotFoundError(`There is no file ${clean}.`);
      await table.set(sql, taskId, { main_path: clean });
      return { result: undefined };
    });
  }

  /**
   * Writes the files of a zip archive, all or none. With `replace`, all other files of the task are removed. Returns the number of files.
   * @throws InvalidZipError, InvalidPathError, LimitExceededError, UploadCutError, NotFoundError, ForbiddenError
   */
  async importZip(taskId: string, archive: Content, as: As & { readonly replace?: boolean }): Promise<number> {
    const { tasks, table, blobs, limits } = this.#options;
    await tasks.allowed(taskId, as, 'edit');
    await using zip = await spoolZip(archive, limits.zipBytes);
    const { entries, close } = await readZip(zip.path, {
      entries: limits.files,
      fileBytes: limits.fileBytes,
      totalBytes: limits.taskBytes,
    });
    const files: { path: string; blob: string; size: number }[] = [];
    try {
      for (const { path, open } of entries) {
        await using spooled = await spool(await open(), limits.fileBytes, path);
        await blobs.keep(spooled);
        files.push({ path, blob: spooled.hash, size: spooled.size });
      }
    } finally {
      close();
    }
    // Awaited here: the promise must not reject unhandled while `await using` cleans up.
    return await table.edit(taskId, async (sql, task) => {
      await blobs.refer(
        sql,
        files.map(({ blob }) => blob),
      );
      const before = await table.files.all(taskId, sql);
      const coming = new Set(files.map(({ path }) => path));
      const leaving = as.replace ? before.filter(({ path }) => !coming.has(path)) : [];
      const staying = as.replace ? [] : before.filter(({ path }) => !coming.has(path));
      checkTogether([...staying.map(({ path }) => path), ...coming]);
      await table.files.remove(sql, leaving);
      let bytes = -leaving.reduce((sum, { size }) => sum + size, 0);
      let count = -leaving.length;
      const known = new Map(before.map((file) => [file.path, file]));
      for (const file of files) {
        const { change } = await table.files.put(sql, taskId, file, known.get(file.path));
        bytes += change.bytes;
        count += change.files;
      }
      if (task.main !== null && leaving.some(({ path }) => path === task.main)) await table.set(sql, taskId, { main_path: null });
      return { result: files.length, change: { files: count, bytes } };
    });
  }

  /** Returns all files as a zip archive, which is packed while it is read. @throws NotFoundError, ForbiddenError */
  async exportZip(taskId: string, as: As): Promise<Readable> {
    const { tasks, table, blobs } = this.#options;
    const task = await tasks.allowed(taskId, as, 'read');
    const files = await table.files.all(taskId);
    return writeZip(
      files.map(({ path, blob }) => ({ path, open: () => blobs.open(blob) })),
      new Date(task.updatedAt),
    );
  }

  async #file(taskId: string, path: string): Promise<FileRow> {
    const clean = filePath(path);
    const file = await this.#options.table.files.find(taskId, clean);
    if (!file) throw new NotFoundError(`There is no file ${clean} in the task ${taskId}.`);
    return file;
  }

  /** The content, if it is UTF-8 text. */
  async #text(blob: string): Promise<string | undefined> {
    const bytes = await this.#options.blobs.read(blob);
    try {
      return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    } catch {
      return undefined;
    }
  }
}
