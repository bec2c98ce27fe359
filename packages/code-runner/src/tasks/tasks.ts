import { type Database, InvalidArgumentError, keyText, type SqlRunner, shownValue } from '@holdfast/core';
import { type Action, type As, type Authorized, actorOf, allow } from '../access.ts';
import { NotFoundError, UnknownLanguageError } from '../errors.ts';
import { filePath } from '../files/path.ts';
import type { Language } from '../languages/language.ts';
import { pageSize } from '../row-ids.ts';
import type { Blobs } from '../store/blobs.ts';
import { type Spooled, spool } from '../store/spool.ts';
import { checkDataSets, type DataSet } from './data-sets.ts';
import type { TaskLimits } from './limits.ts';
import type { Task, TaskTable } from './task-table.ts';

/** Options of {@link Tasks.create}. */
export interface NewTask extends As {
  readonly name: string;
  /** Name of a registered language. */
  readonly language: string;
  /** Contents of the files by path. Default: the language's template. */
  readonly files?: Readonly<Record<string, string>>;
  /** Path of the file that runs start. Default: the template's main file, if `files` contains it. */
  readonly main?: string;
  /** Objects of the file store that programs may read. Default: none. `authorize` has to allow `attach` for each; by default it does not. */
  readonly dataSets?: readonly DataSet[];
}

export interface TasksOptions {
  readonly database: Database;
  readonly table: TaskTable;
  readonly blobs: Blobs;
  readonly languages: ReadonlyMap<string, Language>;
  readonly limits: TaskLimits;
  readonly authorize: Authorized;
  /** Stops the live runs of a task and waits for their end. */
  readonly endRuns: (taskId: string, actor: string) => Promise<void>;
}

/** Creates, reads, changes and removes tasks. */
export class Tasks {
  readonly #options: TasksOptions;

  constructor(options: TasksOptions) {
    this.#options = options;
  }

  /** @throws UnknownLanguageError, InvalidPathError, InvalidArgumentError, LimitExceededError, ForbiddenError */
  async create(task: NewTask): Promise<Task> {
    const { database, table, blobs, limits } = this.#options;
    const actor = actorOf(task);
    const name = keyText('name', task.name);
    const language = this.language(task.language);
    const files = task.files ?? language.template;
    const main = task.main ?? (Object.hasOwn(files, language.main) ? language.main : null);
    if (main !== null && !Object.hasOwn(files, main))
      throw new InvalidArgumentError(`files has no file ${JSON.stringify(main)}; add it, or change main.`);
    const dataSets = await checkDataSets(this.#options.authorize, actor, { id: '', owner: actor }, task.dataSets ?? []);
    const contents: Spooled[] = [];
    const kept: { path: string; blob: string; size: number }[] = [];
    for (const [given, content] of Object.entries(files)) {
      const path = filePath(given);
      const spooled = await spool(content, limits.fileBytes, path);
      contents.push(spooled);
      kept.push({ path, blob: spooled.hash, size: spooled.size });
    }
    const insert = async (sql: SqlRunner): Promise<string> => {
      await blobs.refer(
        sql,
        kept.map(({ blob }) => blob),
      );
      const made = await table.insert(sql, {
        owner: actor,
        name,
        language: language.name,
        main: main === null ? null : filePath(main),
        dataSets,
      });
      let bytes = 0;
      for (const file of kept) bytes += (await table.files.write(sql, made, file)).change.bytes;
      await table.set(sql, made, { files: kept.length, bytes, version: 1 });
      await table.openDraft(sql, { id: made, owner: actor });
      return made;
    };
    return table.get(await blobs.whileKept(contents, () => database.transaction(insert)));
  }

  /** @throws NotFoundError, ForbiddenError */
  async get(id: string, as: As): Promise<Task> {
    return this.allowed(id, as, 'read');
  }

  /** Lists the actor's own tasks, newest first. `before` is the last id of the previous page. `limit` is 50 by default, at most 200. */
  async list(as: As, query: { readonly before?: string; readonly limit?: number } = {}): Promise<readonly Task[]> {
    return this.#options.table.list(actorOf(as), query.before, pageSize(query.limit));
  }

  /** @throws NotFoundError, ForbiddenError, UnknownLanguageError, InvalidArgumentError */
  async update(
    id: string,
    change: As & { readonly name?: string; readonly language?: string; readonly dataSets?: readonly DataSet[] },
  ): Promise<Task> {
    const task = await this.allowed(id, change, 'edit');
    const values: Record<string, unknown> = {};
    if (change.name !== undefined) values.name = keyText('name', change.name);
    if (change.language !== undefined) values.language = this.language(change.language).name;
    if (change.dataSets !== undefined) {
      const dataSets = await checkDataSets(this.#options.authorize, change.actor, task, change.dataSets);
      values.data_sets = JSON.stringify(dataSets);
    }
    await this.#options.table.edit(id, async (sql) => {
      await this.#options.table.set(sql, id, values);
      return { result: undefined };
    });
    return this.#options.table.get(id);
  }

  /**
   * Stops the runs of a task, then removes the task with its files. The runs stay, with their logs, for `keepRuns`.
   * @throws NotFoundError, ForbiddenError
   */
  async remove(id: string, as: As): Promise<void> {
    await this.allowed(id, as, 'remove');
    await this.#options.endRuns(id, as.actor);
    await this.#options.database.transaction(async (sql: SqlRunner) => {
      await this.#options.table.lock(sql, id);
      await this.#options.table.remove(sql, id);
    });
  }

  /** Returns the task if the actor may do `action`. Without the right to read, the task does not exist for the actor. */
  async allowed(id: string, as: As, action: Action): Promise<Task> {
    const actor = actorOf(as);
    const task = await this.#options.table.get(id);
    const resource = { taskId: task.id, owner: task.owner };
    if (!(await this.#options.authorize(actor, 'read', resource))) throw new NotFoundError(`There is no task ${id}.`);
    if (action !== 'read') await allow(this.#options.authorize, actor, action, resource);
    return task;
  }

  /** @throws UnknownLanguageError */
  language(name: string): Language {
    const language = this.#options.languages.get(name);
    if (language) return language;
    throw new UnknownLanguageError(
      `There is no language ${shownValue(name)}; choose one of ${[...this.#options.languages.keys()].join(', ')}.`,
    );
  }
}
