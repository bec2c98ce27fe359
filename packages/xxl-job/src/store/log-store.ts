/** Lines of a run's log. */
export interface LogLines {
  readonly lines: readonly string[];
  /** The number of lines that the log has. */
  readonly total: number;
}

/** Keeps the lines of runs' logs. */
export interface LogStore {
  /** Adds lines at the end of a run's log. Calls for one run do not overlap. */
  append(logId: string, lines: readonly string[]): Promise<void>;
  /** Reads at most `most` lines from line `from`, which counts from 1. */
  read(logId: string, from: number, most: number): Promise<LogLines>;
  /** Deletes logs to which nothing was added for `days`. */
  purge(days: number, signal?: AbortSignal): Promise<void>;
}
