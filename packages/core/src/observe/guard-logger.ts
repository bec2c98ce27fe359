import { callListener } from './call-listener.ts';
import { defaultLogger, type Logger } from './logger.ts';

const guarded = new WeakMap<Logger, Logger>();

/**
 * Makes a logger of the service's safe to call anywhere: a method that throws, or that returns a promise that rejects, neither stops a loop nor
 * ends the process. The first failure of a logger is written to standard error, and so is the line that it lost. Without a logger it returns
 * the default one.
 */
export function guardLogger(logger: Logger = defaultLogger): Logger {
  const known = guarded.get(logger);
  if (known) return known;
  let reported = false;
  const guard =
    (level: keyof Logger) =>
    (fields: object, message: string): void => {
      const failed = (error: unknown): void => {
        if (reported) return;
        reported = true;
        process.stderr.write(
          `holdfast error: the logger failed at ${level}: ${String(error)}. Its lines may be lost from now on. This one was: ${message}\n`,
        );
      };
      // As a method: loggers such as pino need their `this`.
      callListener(() => logger[level](fields, message), failed);
    };
  const safe: Logger = { debug: guard('debug'), info: guard('info'), warn: guard('warn'), error: guard('error') };
  guarded.set(logger, safe);
  guarded.set(safe, safe);
  return safe;
}
