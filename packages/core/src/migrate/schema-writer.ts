import type { Database } from '../database/database.ts';
import { byteCollation } from './keep-trailing-spaces.ts';

/** Writes the DDL of one migration in the database's dialect. Each statement may be run again. */
export class SchemaWriter {
  readonly #database: Database;
  readonly statements: string[] = [];
  /** The type of a primary key that the database counts up: 64 bits, never reused. */
  readonly id: string;
  /** The type of a text of any length. */
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

  /** Adds a table. `columns` is the text between the parentheses. */
  table(name: string, columns: string, storage: { readonly postgres?: string } = {}): void {
    const end = this.#database.family === 'mysql' ? ` ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=${byteCollation(this.#database)}` : '';
    const how = this.#database.family === 'postgres' && storage.postgres ? ` ${storage.postgres}` : '';
    this.statements.push(`CREATE TABLE IF NOT EXISTS ${this.#database.table(name)} (${columns})${how}${end}`);
  }

  /**
   * Adds an index.
   * @param more `where`: the condition of a partial index; MySQL and MariaDB have no partial indexes, and index the columns `wide`, those of
   * the condition first; `online`: the table may be large, so Postgres builds the index without blocking writers, as MySQL does in any case
   */
  index(
    name: string,
    table: string,
    columns: string,
    more: { readonly unique?: boolean; readonly where?: string; readonly wide?: string; readonly online?: boolean } = {},
  ): void {
    const { family, dialect, tablePrefix } = this.#database;
    const unique = more.unique ? 'UNIQUE ' : '';
    const on = this.#database.table(table);
    if (family === 'mysql')
      this.statements.push(
        `CREATE ${unique}INDEX ${dialect === 'mariadb' ? 'IF NOT EXISTS ' : ''}${name} ON ${on} (${more.wide ?? columns})`,
      );
    else {
      const online = more.online && family === 'postgres';
      // What an interrupted build left behind is invalid, and would count as existing.
      if (online) this.statements.push(dropInvalid(this.#database, `${tablePrefix}${name}`));
      this.statements.push(
        `CREATE ${unique}INDEX ${online ? 'CONCURRENTLY ' : ''}IF NOT EXISTS ${tablePrefix}${name} ON ${on} (${columns})${more.where === undefined ? '' : ` WHERE ${more.where}`}`,
      );
    }
  }
}

function dropInvalid(database: Database, index: string): string {
  const schema = database.schema === undefined ? 'current_schema()' : `'${database.schema}'`;
  return `DO $$ BEGIN IF EXISTS (SELECT 1 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = '${index}' AND n.nspname = ${schema} AND NOT i.indisvalid) THEN EXECUTE format('DROP INDEX %I.%I', ${schema}, '${index}'); END IF; END $$`;
}
