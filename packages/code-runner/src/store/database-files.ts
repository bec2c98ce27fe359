import { Readable } from 'node:stream';
import type { Database } from '@holdfast/core';
import { NotFoundError } from '../errors.ts';
import type { FileStore } from './file-store.ts';
import { inParts } from './in-parts.ts';
import { sized } from './sized.ts';

/** Creates the file store of a runner, in the runner's database or elsewhere. */
export type FileStoreOf = (database: Database) => FileStore;

/** Bytes per part. MySQL and MariaDB accept packets of 16 MiB by default; small parts also bound the memory. */
const partBytes = 1_048_576;

/** Stores contents in the runner's own database, in parts of 1 MiB. */
export function databaseFiles(): FileStoreOf {
  return (database) => new DatabaseFiles(database);
}

class DatabaseFiles implements FileStore {
  readonly name = 'the database';
  readonly #database: Database;
  readonly #table: string;
  readonly #upsert: string;

  constructor(database: Database) {
    this.#database = database;
    this.#table = database.table('runner_object');
    // Two processes may store the same content at the same time.
    const replace =
      database.family === 'mysql'
        ? 'ON DUPLICATE KEY UPDATE content = VALUES(content)'
        : 'ON CONFLICT (name, part) DO UPDATE SET content = excluded.content';
    this.#upsert = `INSERT INTO ${this.#table} (name, part, content) VALUES (?, ?, ?) ${replace}`;
  }

  async put(name: string, content: Uint8Array | Readable, size: number): Promise<void> {
    // Overwrites parts of an upload that was cut. Readers learn of the object only after the reference to it is committed.
    let part = 0;
    for await (const bytes of inParts(sized(content, size, name), partBytes)) {
      await this.#database.run(this.#upsert, [name, part, bytes]);
      part += 1;
    }
    // An empty object has one empty part, which shows that it exists.
    if (part === 0) await this.#database.run(this.#upsert, [name, part++, Buffer.alloc(0)]);
    await this.#database.run(`DELETE FROM ${this.#table} WHERE name = ? AND part >= ?`, [name, part]);
  }

  async open(name: string, start = 0): Promise<Readable> {
    if ((await this.size(name)) === undefined) throw new NotFoundError(`There is no object ${name} in the database.`);
    return Readable.from(this.#parts(name, start), { objectMode: false });
  }

  async size(name: string): Promise<number | undefined> {
    const [row] = await this.#database.rows<{ bytes: string | number | null }>(
      `SELECT SUM(OCTET_LENGTH(content)) AS bytes FROM ${this.#table} WHERE name = ?`,
      [name],
    );
    return row?.bytes === null || row?.bytes === undefined ? undefined : Number(row.bytes);
  }

  async remove(names: readonly string[]): Promise<void> {
    for (const name of names) await this.#database.run(`DELETE FROM ${this.#table} WHERE name = ?`, [name]);
  }

  async list(prefix: string, limit: number): Promise<readonly string[]> {
    // The character 0 follows the slash in ASCII. On Postgres the order of the primary key is that of the database's locale.
    const name = this.#database.family === 'postgres' ? 'name COLLATE "C"' : 'name';
    const rows = await this.#database.rows<{ name: string }>(
      `SELECT name FROM ${this.#table} WHERE ${name} >= ? AND ${name} < ? AND part = 0 ORDER BY ${name} LIMIT ${Math.trunc(limit)}`,
      [prefix, `${prefix.slice(0, -1)}0`],
    );
    return rows.map((row) => row.name);
  }

  async probe(): Promise<void> {
    await this.#database.rows(`SELECT part FROM ${this.#table} WHERE name = ''`);
  }

  async *#parts(name: string, start: number): AsyncGenerator<Buffer> {
    let skip = start % partBytes;
    for (let part = Math.floor(start / partBytes); ; part++) {
      const [row] = await this.#database.rows<{ content: Uint8Array }>(`SELECT content FROM ${this.#table} WHERE name = ? AND part = ?`, [
        name,
        part,
      ]);
      if (!row) return;
      const bytes = Buffer.from(row.content.buffer, row.content.byteOffset, row.content.byteLength).subarray(skip);
      skip = 0;
      if (bytes.length > 0) yield bytes;
    }
  }
}
