/** The part of mysql2's connection that is used. */
interface Connection {
  query(sql: string, done: (error: Error | null) => void): void;
}

/**
 * A hook for knex's pool: makes a session of MySQL or MariaDB read a backslash as an escape, whatever the server's `sql_mode`. knex writes
 * values into its statements with such escapes: under NO_BACKSLASH_ESCAPES a quote in a customer's text would end the text.
 */
export function backslashEscapes(connection: Connection, done: (error: Error | null, connection: Connection) => void): void {
  connection.query("SET SESSION sql_mode = REPLACE(@@SESSION.sql_mode, 'NO_BACKSLASH_ESCAPES', '')", (error) => done(error, connection));
}
