import type { Database, SqlRunner } from '@holdfast/core';
import { insertRow } from '@holdfast/core';
import { InvalidPathError, VersionConflictError } from '../errors.ts';
import { foldedPath, foldersOf } from '../files/path.ts';
import { nowIn } from '../row-ids.ts';
import { sha256 } from '../store/spool.ts';

/** A file's row. */
export interface FileRow {
  readonly id: string;
  readonly path: string;
  readonly size: number;
  readonly version: number;
  readonly blob: string;
  readonly updatedAt: number;
}

/** The change of a task's totals by an edit. */
export interface Change {
  readonly files: number;
  readonly bytes: number;
}

/** The rows of files. The caller of a change has locked the row of the task. */
export class FileTable {
  readonly #database: Database;
  readonly #files: string;

  constructor(database: Database) {
    this.#database = database;
    this.#files = database.table('runner_file');
  }

  async all(id: string, sql: Pick<SqlRunner, 'rows'> = this.#database): Promise<FileRow[]> {
    const rows = await sql.rows<RawFile>(`SELECT ${this.#columns} FROM ${this.#files} WHERE task_id = ? ORDER BY folded`, [id]);
    return rows.map(fileOf);
  }

  /** Finds the file with exactly this path. */
  async find(id: string, path: string, sql: Pick<SqlRunner, 'rows'> = this.#database): Promise<FileRow | undefined> {
    const [row] = await sql.rows<RawFile>(`SELECT ${this.#columns} FROM ${this.#files} WHERE task_id = ? AND folded_hash = ?`, [
      id,
      foldedHash(path),
    ]);
    return row && row.path === path ? fileOf(row) : undefined;
  }

  /** Finds the file with this path, or the files in the folder with this path. */
  async under(sql: Pick<SqlRunner, 'rows'>, id: string, path: string): Promise<FileRow[]> {
    const folded = foldedPath(path);
    const rows = await sql.rows<RawFile>(
      `SELECT ${this.#columns} FROM ${this.#files} WHERE task_id = ? AND (folded = ? OR (folded > ? AND folded < ?)) ORDER BY folded`,
      // The character 0 follows the slash in ASCII.
      [id, folded, `${folded}/`, `${folded}0`],
    );
    return rows.map(fileOf).filter((file) => file.path === path || file.path.startsWith(`${path}/`));
  }

  /**
   * Writes one file. With `ifVersion`, only if the file has that version; 0 means that it does not exist.
   * @throws InvalidPathError, VersionConflictError
   */
  async write(
    sql: SqlRunner,
    id: string,
    file: { readonly path: string; readonly blob: string; readonly size: number; readonly ifVersion?: number | undefined },
  ): Promise<{ readonly file: FileRow; readonly change: Change }> {
    const { path, ifVersion } = file;
    const [known] = await sql.rows<RawFile>(`SELECT ${this.#columns} FROM ${this.#files} WHERE task_id = ? AND folded_hash = ?`, [
      id,
      foldedHash(path),
    ]);
    if (known && known.path !== path)
      throw new InvalidPathError(
        `${path} and ${known.path} differ in upper and lower case only, which some systems can't tell apart. Rename one.`,
      );
    if (ifVersion !== undefined && ifVersion !== Number(known?.version ?? 0))
      throw new VersionConflictError(
        known
          ? `${path} now has version ${known.version}, not ${ifVersion}: somebody else has changed it. Read it again.`
          : `${path} does not exist, so it has no version ${ifVersion}. Read the tree again.`,
      );
    if (!known) await this.#checkPlace(sql, id, path);
    return this.put(sql, id, file, known && fileOf(known));
  }

  /** Writes a file whose path has been checked; `known` is its present row, if it exists. */
  async put(
    sql: SqlRunner,
    id: string,
    { path, blob, size }: { readonly path: string; readonly blob: string; readonly size: number },
    known: FileRow | undefined,
  ): Promise<{ readonly file: FileRow; readonly change: Change }> {
    if (known) {
      await sql.run(`UPDATE ${this.#files} SET blob_hash = ?, size = ?, version = version + 1, updated_at = {now} WHERE id = ?`, [
        blob,
        size,
        known.id,
      ]);
      return { file: { ...known, blob, size, version: known.version + 1 }, change: { files: 0, bytes: size - known.size } };
    }
    const now = await nowIn(sql);
    const values = {
      task_id: id,
      path,
      folded: foldedPath(path),
      folded_hash: foldedHash(path),
      blob_hash: blob,
      size,
      updated_at: now,
    };
    const fileId = await insertRow(sql, this.#files, values);
    return { file: { id: fileId, path, size, version: 1, blob, updatedAt: now }, change: { files: 1, bytes: size } };
  }

  /** Gives files new paths, which have been checked together with the paths of the other files. */
  async move(sql: SqlRunner, moves: readonly { readonly file: FileRow; readonly path: string }[]): Promise<void> {
    // First to temporary hashes: the new path of one file may be the old path of another.
    for (const { file } of moves)
      await sql.run(`UPDATE ${this.#files} SET folded_hash = ? WHERE id = ?`, [sha256(`moving ${file.id}`), file.id]);
    for (const { file, path } of moves)
      await sql.run(`UPDATE ${this.#files} SET path = ?, folded = ?, folded_hash = ?, updated_at = {now} WHERE id = ?`, [
        path,
        foldedPath(path),
        foldedHash(path),
        file.id,
      ]);
  }

  async remove(sql: SqlRunner, files: readonly FileRow[]): Promise<void> {
    for (let i = 0; i < files.length; i += 500) {
      const ids = files.slice(i, i + 500).map((file) => file.id);
      await sql.run(`${this.#database.deleteByPrimaryKey(this.#files)} WHERE id IN (${ids.map(() => '?').join(', ')})`, ids);
    }
  }

  /** @throws InvalidPathError if a file has the path of a folder, or two folders differ in case only */
  async #checkPlace(sql: SqlRunner, id: string, path: string): Promise<void> {
    const folders = foldersOf(path);
    if (folders.length > 0) {
      const [file] = await sql.rows<{ path: string }>(
        `SELECT path FROM ${this.#files} WHERE task_id = ? AND folded_hash IN (${folders.map(() => '?').join(', ')})`,
        [id, ...folders.map(foldedHash)],
      );
      if (file) throw new InvalidPathError(`${path} needs a folder where the file ${file.path} is. Rename or move one.`);
    }
    const folded = foldedPath(path);
    const [inside] = await sql.rows<{ path: string }>(
      `SELECT path FROM ${this.#files} WHERE task_id = ? AND folded > ? AND folded < ? LIMIT 1`,
      [id, `${folded}/`, `${folded}0`],
    );
    if (inside) throw new InvalidPathError(`${path} is a folder, with ${inside.path} in it. Choose another name.`);
    for (const [i, ours] of folders.entries()) {
      // Any file of the folder will do: all spell the folder the same way.
      const [neighbour] = await sql.rows<{ path: string }>(
        `SELECT path FROM ${this.#files} WHERE task_id = ? AND folded > ? AND folded < ? LIMIT 1`,
        [id, `${foldedPath(ours)}/`, `${foldedPath(ours)}0`],
      );
      const theirs = neighbour && foldersOf(neighbour.path)[i];
      if (theirs !== undefined && theirs !== ours)
        throw new InvalidPathError(`The folders ${ours} and ${theirs} differ in upper and lower case only. Rename one.`);
    }
  }

  get #columns(): string {
    const text = (column: string): string => this.#database.text(column);
    return `${text('id')} AS id, path, ${text('size')} AS size, version, blob_hash, ${text('updated_at')} AS updated_at`;
  }
}

interface RawFile {
  id: string;
  path: string;
  size: string;
  version: number;
  blob_hash: string;
  updated_at: string;
}

function fileOf(row: RawFile): FileRow {
  return {
    id: row.id,
    path: row.path,
    size: Number(row.size),
    version: Number(row.version),
    blob: row.blob_hash.trim(),
    updatedAt: Number(row.updated_at),
  };
}

function foldedHash(path: string): string {
  return sha256(foldedPath(path));
}
