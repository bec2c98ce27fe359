import { type Database, type SqlRunner, uuidv7 } from '@holdfast/core';
import { InvalidPathError, LimitExceededError, NotFoundError, VersionConflictError } from '../errors.ts';
import { foldedPath, foldersOf } from '../files/path.ts';
import { insertRow, isId, nowIn } from '../insert-row.ts';
import { sha256 } from '../store/spool.ts';
import type { TaskLimits } from './limits.ts';

/** A data set that programs of a task see, read-only, under `/data`. */
export interface DataSet {
  /** Where it appears, below `/data`. */
  readonly path: string;
  /** Name of the object in the file store. */
  readonly object: string;
}

/** A task: a tree of files, one of them to be run. */
export interface Task {
  readonly id: string;
  readonly owner: string;
  readonly name: string;
  readonly language: string;
  /** Path of the file that is run; `null` once it was removed. */
  readonly main: string | null;
  /** Grows with each edit. */
  readonly version: number;
  readonly files: number;
  readonly bytes: number;
  readonly dataSets: readonly DataSet[];
  /** The run that the next submit freezes, if the task was edited since the last. */
  readonly draftRunId: string | null;
  /** In epoch ms. */
  readonly createdAt: number;
  readonly updatedAt: number;
}

/** A file's row. */
export interface FileRow {
  readonly id: string;
  readonly path: string;
  readonly size: number;
  readonly version: number;
  readonly blob: string;
  readonly updatedAt: number;
}

interface RawTask {
  id: string;
  owner: string;
  name: string;
  language: string;
  main_path: string | null;
  version: number;
  files: number;
  bytes: string | number;
  data_sets: string;
  draft_run_id: string | null;
  created_at: string | number;
  updated_at: string | number;
}

/** What an edit does to the totals. */
interface Change {
  readonly files: number;
  readonly bytes: number;
}

/**
 * Tasks and their files. Every edit locks its task's row first, so that paths, totals and the draft are judged one edit at a
 * time; tasks do not wait for each other.
 */
export class TaskTable {
  readonly #database: Database;
  readonly #tasks: string;
  readonly #files: string;
  readonly #runs: string;
  readonly #limits: TaskLimits;

  constructor(database: Database, limits: TaskLimits) {
    this.#database = database;
    this.#tasks = database.table('runner_task');
    this.#files = database.table('runner_file');
    this.#runs = database.table('runner_run');
    this.#limits = limits;
  }

  get #columns(): string {
    const text = (column: string): string => this.#database.text(column);
    return `${text('id')} AS id, owner, name, language, main_path, version, files, ${text('bytes')} AS bytes, data_sets, ${text('draft_run_id')} AS draft_run_id, ${text('created_at')} AS created_at, ${text('updated_at')} AS updated_at`;
  }

  async insert(sql: SqlRunner, task: Pick<Task, 'owner' | 'name' | 'language' | 'main' | 'dataSets'>): Promise<string> {
    const now = await nowIn(sql);
    const id = await insertRow(sql, this.#tasks, {
      owner: task.owner,
      name: task.name,
      language: task.language,
      main_path: task.main,
      data_sets: JSON.stringify(task.dataSets),
      created_at: now,
      updated_at: now,
    });
    return id;
  }

  /** @throws NotFoundError */
  async get(id: string, sql: Pick<SqlRunner, 'rows'> = this.#database, lock = ''): Promise<Task> {
    const [row] = isId(id)
      ? await sql.rows<RawTask>(`SELECT ${this.#columns} FROM ${this.#tasks} WHERE id = ? AND removed_at IS NULL${lock}`, [id])
      : [];
    if (!row) throw new NotFoundError(`There is no task ${String(id).slice(0, 40)}.`);
    return taskOf(row);
  }

  /** Newest first. */
  async list(owner: string | undefined, before: string | undefined, limit: number): Promise<Task[]> {
    const params: unknown[] = [];
    let where = 'removed_at IS NULL';
    if (owner !== undefined) {
      where += ' AND owner = ?';
      params.push(owner);
    }
    if (before !== undefined) {
      where += ' AND id < ?';
      params.push(isId(before) ? before : '0');
    }
    const rows = await this.#database.rows<RawTask>(
      `SELECT ${this.#columns} FROM ${this.#tasks} WHERE ${where} ORDER BY id DESC LIMIT ${Math.trunc(limit)}`,
      params,
    );
    return rows.map(taskOf);
  }

  /** Runs `change` with the task's row locked; afterwards the task has a new version and a draft. */
  async edit<T>(id: string, change: (sql: SqlRunner, task: Task) => Promise<{ readonly result: T; readonly change?: Change }>): Promise<T> {
    return this.#database.transaction(async (sql) => {
      const task = await this.lock(sql, id);
      const { result, change: by = { files: 0, bytes: 0 } } = await change(sql, task);
      const { files, taskBytes } = this.#limits;
      if (by.files > 0 && task.files + by.files > files)
        throw new LimitExceededError(
          `The task would have ${task.files + by.files} files; at most ${files} are allowed. Nothing was stored.`,
        );
      if (by.bytes > 0 && task.bytes + by.bytes > taskBytes)
        throw new LimitExceededError(
          `The task's files would have ${task.bytes + by.bytes} bytes together; at most ${taskBytes} are allowed. Nothing was stored.`,
        );
      await sql.run(
        `UPDATE ${this.#tasks} SET version = version + 1, files = files + ?, bytes = bytes + ?, updated_at = {now} WHERE id = ?`,
        [by.files, by.bytes, id],
      );
      if (task.draftRunId === null) await this.openDraft(sql, task);
      return result;
    });
  }

  /** The task's row, locked until the transaction ends. @throws NotFoundError */
  lock(sql: SqlRunner, id: string): Promise<Task> {
    return this.get(id, sql, this.#database.family === 'sqlite' ? '' : ' FOR UPDATE');
  }

  async openDraft(sql: SqlRunner, task: Pick<Task, 'id' | 'owner'>): Promise<string> {
    const now = await nowIn(sql);
    const run = await insertRow(sql, this.#runs, {
      task_id: task.id,
      created_at: now,
      job_uid: uuidv7().replaceAll('-', ''),
      actor: task.owner,
    });
    await sql.run(`UPDATE ${this.#tasks} SET draft_run_id = ? WHERE id = ?`, [run, task.id]);
    return run;
  }

  async set(sql: SqlRunner, id: string, values: Readonly<Record<string, unknown>>): Promise<void> {
    const columns = Object.keys(values);
    if (columns.length === 0) return;
    await sql.run(`UPDATE ${this.#tasks} SET ${columns.map((column) => `${column} = ?`).join(', ')} WHERE id = ?`, [
      ...Object.values(values),
      id,
    ]);
  }

  /** The row stays, for the runs that name it; its files go. */
  async remove(sql: SqlRunner, id: string): Promise<void> {
    await sql.run(`DELETE FROM ${this.#files} WHERE task_id = ?`, [id]);
    await sql.run(`DELETE FROM ${this.#runs} WHERE task_id = ? AND phase = 'draft'`, [id]);
    await sql.run(`UPDATE ${this.#tasks} SET removed_at = {now}, draft_run_id = NULL, files = 0, bytes = 0 WHERE id = ?`, [id]);
  }

  async files(id: string, sql: Pick<SqlRunner, 'rows'> = this.#database): Promise<FileRow[]> {
    const rows = await sql.rows<RawFile>(`SELECT ${this.#fileColumns} FROM ${this.#files} WHERE task_id = ? ORDER BY folded`, [id]);
    return rows.map(fileOf);
  }

  /** The file of this very path. */
  async file(id: string, path: string, sql: Pick<SqlRunner, 'rows'> = this.#database): Promise<FileRow | undefined> {
    const [row] = await sql.rows<RawFile>(`SELECT ${this.#fileColumns} FROM ${this.#files} WHERE task_id = ? AND folded_hash = ?`, [
      id,
      foldedHash(path),
    ]);
    return row && row.path === path ? fileOf(row) : undefined;
  }

  /** The file of this path, or the files of the folder of this path. */
  async under(sql: Pick<SqlRunner, 'rows'>, id: string, path: string): Promise<FileRow[]> {
    const folded = foldedPath(path);
    const rows = await sql.rows<RawFile>(
      `SELECT ${this.#fileColumns} FROM ${this.#files} WHERE task_id = ? AND (folded = ? OR (folded > ? AND folded < ?)) ORDER BY folded`,
      // 0 is what follows the slash.
      [id, folded, `${folded}/`, `${folded}0`],
    );
    return rows.map(fileOf).filter((file) => file.path === path || file.path.startsWith(`${path}/`));
  }

  /**
   * Writes one file. Returns what changed. With `ifVersion`, only if the file has that version; 0: if there is none.
   * @throws InvalidPathError, VersionConflictError
   */
  async write(
    sql: SqlRunner,
    id: string,
    file: { readonly path: string; readonly blob: string; readonly size: number; readonly ifVersion?: number | undefined },
  ): Promise<{ readonly file: FileRow; readonly change: Change }> {
    const { path, ifVersion } = file;
    const [known] = await sql.rows<RawFile>(`SELECT ${this.#fileColumns} FROM ${this.#files} WHERE task_id = ? AND folded_hash = ?`, [
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
          ? `${path} has version ${known.version} by now, not ${ifVersion}: somebody else has changed it. Read it again.`
          : `${path} is not there, so it has no version ${ifVersion}. Read the tree again.`,
      );
    if (!known) await this.#checkPlace(sql, id, path);
    return this.put(sql, id, file, known && fileOf(known));
  }

  /** Writes a file whose place has been checked, over `known` if it is there. */
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

  /** Gives files other paths, which have been checked together with those of the files that stay. */
  async move(sql: SqlRunner, moves: readonly { readonly file: FileRow; readonly path: string }[]): Promise<void> {
    // Out of the way first: one file's new place may be another's old one.
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

  async removeFiles(sql: SqlRunner, files: readonly FileRow[]): Promise<void> {
    for (let i = 0; i < files.length; i += 500) {
      const ids = files.slice(i, i + 500).map((file) => file.id);
      await sql.run(`${this.#database.deleteByPrimaryKey(this.#files)} WHERE id IN (${ids.map(() => '?').join(', ')})`, ids);
    }
  }

  /** No file where others have a folder, no folder where there is a file, and no two folders that differ in case only. */
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
      // Any of the folder's files: they all spell it the same way.
      const [neighbour] = await sql.rows<{ path: string }>(
        `SELECT path FROM ${this.#files} WHERE task_id = ? AND folded > ? AND folded < ? LIMIT 1`,
        [id, `${foldedPath(ours)}/`, `${foldedPath(ours)}0`],
      );
      const theirs = neighbour && foldersOf(neighbour.path)[i];
      if (theirs !== undefined && theirs !== ours)
        throw new InvalidPathError(`The folders ${ours} and ${theirs} differ in upper and lower case only. Rename one.`);
    }
  }

  get #fileColumns(): string {
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

function taskOf(row: RawTask): Task {
  return {
    id: row.id,
    owner: row.owner,
    name: row.name,
    language: row.language,
    main: row.main_path,
    version: Number(row.version),
    files: Number(row.files),
    bytes: Number(row.bytes),
    dataSets: JSON.parse(row.data_sets) as DataSet[],
    draftRunId: row.draft_run_id,
    createdAt: Number(row.created_at),
    updatedAt: Number(row.updated_at),
  };
}

function foldedHash(path: string): string {
  return sha256(foldedPath(path));
}
