import { storedError } from '../errors/stored-error.ts';

/**
 * The log that a package writes to. Its methods are those of pino, so a pino logger can be passed as it is. Packages never write secrets,
 * tokens, signing keys or URL queries to it.
 */
export interface Logger {
  /** Details that help to find a fault. */
  debug(fields: object, message: string): void;
  /** Normal events. */
  info(fields: object, message: string): void;
  /** Something that a person should check, not urgently. */
  warn(fields: object, message: string): void;
  /** Something that a person should check now. */
  error(fields: object, message: string): void;
}

function quiet(): void {
  // Below `warn` the default logger is silent.
}

/** JSON.stringify would leave out the name and the message of an error. */
function withErrors(_name: string, value: unknown): unknown {
  return value instanceof Error ? storedError(value) : value;
}

function toStandardError(level: string) {
  return (fields: object, message: string): void => {
    process.stderr.write(`holdfast ${level}: ${message} ${JSON.stringify(fields, withErrors)}\n`);
  };
}

/** The default logger: writes `warn` and `error` to standard error, one line each, and ignores the rest. */
export const defaultLogger: Logger = { debug: quiet, info: quiet, warn: toStandardError('warn'), error: toStandardError('error') };

/** A logger that writes nothing. */
export const silentLogger: Logger = { debug: quiet, info: quiet, warn: quiet, error: quiet };
