import type { Database } from '../database/database.ts';
import { quoted } from '../database/dialect-sql.ts';
import { fittingName } from './fitting-name.ts';
import { byteCollation } from './keep-trailing-spaces.ts';

/** Writes the DDL of one migration in the database's dialect. Each statement may be run again. */
export class SchemaWriter {
  readonly #database: Database;
  readonly statements: string[] = [];
  /** The type of a primary key that the database counts up: 64 bits, never reused. */
  readonly id: string;
  /** The type of a text of any length. */
  readonly text: string;
  /** The type of bytes of any length. */
  readonly bytes: string;

  constructor(database: Database) {
    const { family } = database;
    this.#database = database;
    this.id =
      family === 'postgres'
        ? 'BIGSERIAL PRIMARY KEY'
        : family === 'sqlite'
          ? 'INTEGER PRIMARY KEY AUTOINCREMENT'
          : 'BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY';
    this.text = family === 'mysql' ? 'LONGTEXT' : 'TEXT';
    this.bytes = family === 'postgres' ? 'BYTEA' : family === 'mysql' ? 'LONGBLOB' : 'BLOB';
  }

  /** Adds a table. `columns` is the text between the parentheses. */
  table(name: string, columns: string, storage: { readonly postgres?: string } = {}): void {
    fittingName(this.#database, name);
    const end = this.#database.family === 'mysql' ? ` ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=${byteCollation(this.#database)}` : '';
    const how = this.#database.family === 'postgres' && storage.postgres ? ` ${storage.postgres}` : '';
    this.statements.push(`CREATE TABLE IF NOT EXISTS ${this.#database.table(name)} (${columns})${how}${end}`);
  }

  /**
   * Adds an index. On Postgres and SQLite its name has the prefix, as names of indexes are those of the whole schema there.
   * @param more `concurrently`: Postgres builds the index without blocking writers, for a table that is in use. `where`: the condition of a partial
   *   index; MySQL and MariaDB have none, and index the columns `wide` instead, those of the condition first
   */
  index(
    name: string,
    table: string,
    columns: string,
    more: { readonly unique?: boolean; readonly concurrently?: boolean; readonly where?: string; readonly wide?: string } = {},
  ): void {
    const { family, dialect } = this.#database;
    const on = this.#database.table(table);
    const unique = more.unique ? 'UNIQUE ' : '';
    if (family === 'mysql') {
      const ifAbsent = dialect === 'mariadb' ? 'IF NOT EXISTS ' : '';
      this.statements.push(`CREATE ${unique}INDEX ${ifAbsent}${name} ON ${on} (${more.wide ?? columns})`);
      return;
    }
    const concurrently = more.concurrently && family === 'postgres' ? 'CONCURRENTLY ' : '';
    const where = more.where === undefined ? '' : ` WHERE ${more.where}`;
    // Quoted: without quotes, Billing_ and billing_ would be one prefix on Postgres, and the indexes of the second would be left out.
    const own = quoted(this.#database, fittingName(this.#database, name));
    this.statements.push(`CREATE ${unique}INDEX ${concurrently}IF NOT EXISTS ${own} ON ${on} (${columns})${where}`);
  }
}
