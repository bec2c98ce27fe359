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

const connectionCodes = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'ENOTFOUND',
  'EHOSTUNREACH',
  'ENOENT',
  'PROTOCOL_CONNECTION_LOST',
  'PROTOCOL_ENQUEUE_AFTER_FATAL_ERROR',
  '57P01',
  '57P02',
  '57P03',
  '08000',
  '08003',
  '08006',
  '08001',
  '53300',
  'database-unavailable',
]);

/** Returns whether the error says that the database can't be reached at the moment. */
export function isConnectionError(error: unknown): boolean {
  if (typeof error !== 'object' || error === null) return false;
  const { code, message, name } = error as { code?: unknown; message?: unknown; name?: unknown };
  if (typeof code === 'string' && connectionCodes.has(code)) return true;
  if (error instanceof AggregateError) return error.errors.some(isConnectionError);
  if (name === 'KnexTimeoutError') return true;
  return (
    typeof message === 'string' &&
    /Connection terminated|not queryable|connection is in closed state|socket hang up|Connection lost/i.test(message)
  );
}
