/** Tells knex's pool to drop the connection instead of handing it out again. */
export function discard(connection: object, cause: unknown): void {
  (connection as { __knex__disposed?: unknown }).__knex__disposed = cause ?? true;
}
