/** Returns whether the error is a conflict after which the same transaction may succeed if it runs again. Nothing of it was committed. */
export function isTransient(error: unknown): boolean {
  const { code, errno } = (error ?? {}) as { code?: unknown; errno?: unknown };
  // Postgres: serialization failure, deadlock, lock not available.
  if (code === '40001' || code === '40P01' || code === '55P03') return true;
  // MySQL, MariaDB: lock wait time-out, deadlock, "record has changed since last read" (snapshot isolation, MariaDB 11).
  if (errno === 1205 || errno === 1213 || errno === 1020) return true;
  return isBusy(error);
}

/** Returns whether the error is SQLITE_BUSY or SQLITE_LOCKED, with any extended code. */
export function isBusy(error: unknown): boolean {
  const { code, errcode } = (error ?? {}) as { code?: unknown; errcode?: unknown };
  return code === 'ERR_SQLITE_ERROR' && typeof errcode === 'number' && ((errcode & 0xff) === 5 || (errcode & 0xff) === 6);
}

/** Returns whether a statement failed because a table is not there, in whatever language the server speaks. */
export function isMissingTable(error: unknown): boolean {
  const { code, errno, errcode, message } = (error ?? {}) as { code?: unknown; errno?: unknown; errcode?: unknown; message?: unknown };
  if (code === '42P01' || errno === 1146) return true;
  // SQLite has no code of its own for it, and speaks English only.
  return code === 'ERR_SQLITE_ERROR' && errcode === 1 && /^no such table/.test(String(message));
}

/**
 * Returns whether a write failed because the server, or the session, accepts reads only. After a failover the old primary is a replica, and
 * keeps its connections: each write on them fails, for ever. So such a connection counts as lost, and the next one reaches the new primary.
 */
export function isReadOnly(error: unknown): boolean {
  const { code, errno } = (error ?? {}) as { code?: unknown; errno?: unknown };
  return code === '25006' || (typeof errno === 'number' && readOnlyErrors.has(errno));
}

/**
 * MySQL, MariaDB: the option --read-only, or another one, prevents the statement; a read-only transaction; InnoDB in read-only mode; a Galera
 * node that is not part of the primary component.
 */
const readOnlyErrors = new Set([1290, 1792, 1836, 1047]);

const connectionCodes = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ECONNABORTED',
  'EPIPE',
  'ETIMEDOUT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOENT',
  'PROTOCOL_CONNECTION_LOST',
  'PROTOCOL_ENQUEUE_AFTER_FATAL_ERROR',
  // Postgres: shut down by an administrator, crashed, starting up, idle for too long, too many connections, failed connections.
  '57P01',
  '57P02',
  '57P03',
  '57P05',
  '25P03',
  '25P04',
  '08000',
  '08001',
  '08003',
  '08004',
  '08006',
  '53300',
  'database-unavailable',
]);

/**
 * MySQL, MariaDB: too many connections, a server that is shutting down or offline, a connection that was killed, or idle for too long.
 */
const connectionErrors = new Set([1040, 1053, 1203, 1927, 3032, 3169, 4031]);

/** Returns whether the error says that the database can't be reached at the moment. */
export function isConnectionError(error: unknown): boolean {
  if (typeof error !== 'object' || error === null) return false;
  const { code, errno, message, name } = error as { code?: unknown; errno?: unknown; message?: unknown; name?: unknown };
  if (typeof code === 'string' && connectionCodes.has(code)) return true;
  if (typeof errno === 'number' && connectionErrors.has(errno)) return true;
  if (isReadOnly(error)) return true;
  if (error instanceof AggregateError) return error.errors.some(isConnectionError);
  if (name === 'KnexTimeoutError') return true;
  // pg and mysql2 themselves, not the server, make these errors, in English, and give them no code.
  return (
    typeof message === 'string' &&
    /Connection terminated|not queryable|connection is in closed state|socket hang up|Connection lost/i.test(message)
  );
}
