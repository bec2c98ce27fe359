import { type Database, forUpdate, insertRow, type SqlRunner, uuidv7 } from '@holdfast/core';
import { LimitExceededError, NotFoundError } from '../errors.ts';
import { isId, nowIn, shownId } from '../row-ids.ts';
import type { DataSet } from './data-sets.ts';
import { type Change, FileTable } from './file-table.ts';
import type { TaskLimits } from './limits.ts';

/** A task: a tree of files, one of which is run. */
export interface Task {
  readonly id: string;
  readonly owner: string;
  readonly name: string;
  readonly language: string;
  /** Path of the file that runs start; `null` if there is none. */
  readonly main: string | null;
  /** Grows with each edit. */
  readonly version: number;
  readonly files: number;
  readonly bytes: number;
  readonly dataSets: readonly DataSet[];
  /** The run that the next submit will use, if the task was edited since the last submit. */
  readonly draftRunId: string | null;
  /** In epoch ms. */
  readonly createdAt: number;
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

/**
 * The rows of tasks. Every edit locks the row of its task first, so that edits of one task take turns. Edits of different tasks do not
 * wait for each other.
 */
export class TaskTable {
  readonly files: FileTable;
  readonly #database: Database;
  readonly #tasks: string;
  readonly #files: string;
  readonly #runs: string;
  readonly #limits: TaskLimits;

  constructor(database: Database, limits: TaskLimits) {
    this.files = new FileTable(database);
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
    if (!row) throw new NotFoundError(`There is no task ${shownId(id)}.`);
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
      `SELECT ${this.#columns} FROM ${this.#tasks} t WHERE ${where} ORDER BY t.id DESC LIMIT ${limit}`,
      params,
    );
    return rows.map(taskOf);
  }

  /** Runs `change` with the task's row locked; then gives the task a new version, new totals, and a draft. */
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
    return this.get(id, sql, forUpdate(this.#database));
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

  /** Marks a task as removed and deletes its files. The row stays, for the runs that refer to it. */
  async remove(sql: SqlRunner, id: string): Promise<void> {
    await sql.run(`DELETE FROM ${this.#files} WHERE task_id = ?`, [id]);
    await sql.run(`DELETE FROM ${this.#runs} WHERE task_id = ? AND phase = 'draft'`, [id]);
    await sql.run(`UPDATE ${this.#tasks} SET removed_at = {now}, draft_run_id = NULL, files = 0, bytes = 0 WHERE id = ?`, [id]);
  }
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
