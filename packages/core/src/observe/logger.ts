import { storedError } from '../errors/stored-error.ts';

/**
 * Where a package writes. Shaped like pino's methods, so a pino logger can be passed as it is.
 * Secrets, tokens, signing keys and URL queries are never given to it.
 */
export interface Logger {
  /** What helps whoever looks for a fault. */
  debug(fields: object, message: string): void;
  /** What happened, in the normal course of things. */
  info(fields: object, message: string): void;
  /** What somebody should look at some day. */
  warn(fields: object, message: string): void;
  /** What somebody should look at now. */
  error(fields: object, message: string): void;
}

function quiet(): void {
  // Below `warn` the default logger is silent.
}

/** An error's own properties are its code at most; what it says is not among them. */
function withErrors(_name: string, value: unknown): unknown {
  return value instanceof Error ? storedError(value) : value;
}

function toStandardError(level: string) {
  return (fields: object, message: string): void => {
    process.stderr.write(`holdfast ${level}: ${message} ${JSON.stringify(fields, withErrors)}\n`);
  };
}

/** The default: `warn` and `error` as one line each on standard error, nothing below. */
export const defaultLogger: Logger = { debug: quiet, info: quiet, warn: toStandardError('warn'), error: toStandardError('error') };

/** Says nothing at all. */
export const silentLogger: Logger = { debug: quiet, info: quiet, warn: quiet, error: quiet };
