import type { Logger } from '../observe/logger.ts';

/** One line of a log. */
export interface LogLine {
  readonly level: keyof Logger;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly message: string;
}

/** A logger that keeps its lines. */
export interface RecordedLog extends Logger {
  /** The lines so far. */
  readonly lines: readonly LogLine[];
  /** The lines of a level whose message contains `text`. */
  at(level: keyof Logger, text: string): readonly LogLine[];
}

/** Makes a logger for tests of what is logged. */
export function recordLog(): RecordedLog {
  const lines: LogLine[] = [];
  const writer = (level: keyof Logger) => (fields: object, message: string) =>
    void lines.push({ level, fields: fields as LogLine['fields'], message });
  return {
    lines,
    at: (level, text) => lines.filter((line) => line.level === level && line.message.includes(text)),
    debug: writer('debug'),
    info: writer('info'),
    warn: writer('warn'),
    error: writer('error'),
  };
}
