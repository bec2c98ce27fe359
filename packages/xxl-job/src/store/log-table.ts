import { cleanText, type Database, deleteOlder } from '@holdfast/core';
import type { LogLines, LogStore } from './log-store.ts';

/** A row holds at most so many lines, so that a read finds the row of a line by its number. */
const linesPerRow = 500;
/** A row is about so long at most; a longer line is cut. */
const charactersPerRow = 100_000;

/** Logs in the table `xxl_job_log`, several lines in a row. */
export class LogTable implements LogStore {
  readonly #database: Database;
  readonly #appName: string;
  readonly #table: string;

  constructor(database: Database, appName: string) {
    this.#database = database;
    this.#appName = appName;
    this.#table = database.table('xxl_job_log');
  }

  async append(logId: string, lines: readonly string[]): Promise<void> {
    const text = (mark: string): string => (this.#database.family === 'postgres' ? `${mark}::text` : mark);
    for (const some of rowsOf(lines))
      await this.#database.run(
        `INSERT INTO ${this.#table} (app_name, log_id, first_line, line_count, content, written_at) SELECT ${text('?')}, ${BigInt(logId)}, COALESCE(MAX(t.first_line + t.line_count), 1), ${some.length}, ${text('?')}, {now} FROM ${this.#table} t WHERE t.app_name = ? AND t.log_id = ${BigInt(logId)}`,
        [this.#appName, some.join('\n'), this.#appName],
      );
  }

  async read(logId: string, from: number, most: number): Promise<LogLines> {
    const of = `app_name = ? AND log_id = ${BigInt(logId)}`;
    const [end] = await this.#database.rows<{ total: string | number | null }>(
      `SELECT MAX(first_line + line_count) - 1 AS total FROM ${this.#table} WHERE ${of}`,
      [this.#appName],
    );
    const total = Number(end?.total ?? 0);
    const rows = await this.#database.rows<{ first_line: string | number; content: string }>(
      `SELECT first_line, content FROM ${this.#table} WHERE ${of} AND first_line > ${from - linesPerRow} AND first_line < ${from + most} ORDER BY first_line`,
      [this.#appName],
    );
    const lines = rows.flatMap(({ first_line, content }) => {
      const own = content.split('\n');
      return own.slice(Math.max(0, from - Number(first_line)), Math.max(0, from + most - Number(first_line)));
    });
    return { lines, total };
  }

  async purge(days: number, signal?: AbortSignal): Promise<void> {
    await deleteOlder(this.#database, this.#table, 'written_at', `{now} - ${days * 86_400_000}`, signal);
  }
}

/** The lines of each row. */
function rowsOf(lines: readonly string[]): readonly (readonly string[])[] {
  const rows: string[][] = [];
  let length = 0;
  for (const line of lines) {
    const own = cleanText(line.slice(0, charactersPerRow));
    const row = rows.at(-1);
    length += own.length;
    if (row && row.length < linesPerRow && length <= charactersPerRow) row.push(own);
    else {
      rows.push([own]);
      length = own.length;
    }
  }
  return rows;
}
