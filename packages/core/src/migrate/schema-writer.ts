import type { Database } from '../database/database.ts';

/** Writes DDL for the tables of one migration: what the databases spell differently stands here once. Each statement may be run again. */
export class SchemaWriter {
  readonly #database: Database;
  readonly statements: string[] = [];
  /** A 64-bit number that the database counts up, as primary key. Never reused. */
  readonly id: string;
  /** Text of any length. */
  readonly text: string;
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

  /** Adds a table. `columns` is what stands between the parentheses. */
  table(name: string, columns: string, storage: { readonly postgres?: string } = {}): void {
    const end = this.#database.family === 'mysql' ? ' ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin' : '';
    const how = this.#database.family === 'postgres' && storage.postgres ? ` ${storage.postgres}` : '';
    this.statements.push(`CREATE TABLE IF NOT EXISTS ${this.#database.table(name)} (${columns})${how}${end}`);
  }

  /**
   * Adds an index.
   * @param more `where`: rows that the index holds; MySQL and MariaDB have no such indexes: there `wide` are the columns, those of the
   * condition first
   */
  index(
    name: string,
    table: string,
    columns: string,
    more: { readonly unique?: boolean; readonly where?: string; readonly wide?: string } = {},
  ): void {
    const { family, dialect, tablePrefix } = this.#database;
    const unique = more.unique ? 'UNIQUE ' : '';
    const on = this.#database.table(table);
    if (family === 'mysql')
      this.statements.push(
        `CREATE ${unique}INDEX ${dialect === 'mariadb' ? 'IF NOT EXISTS ' : ''}${name} ON ${on} (${more.wide ?? columns})`,
      );
    else
      this.statements.push(
        `CREATE ${unique}INDEX IF NOT EXISTS ${tablePrefix}${name} ON ${on} (${columns})${more.where === undefined ? '' : ` WHERE ${more.where}`}`,
      );
  }
}
