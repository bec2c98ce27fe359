/** Limits on the files of a task. */
export interface TaskLimits {
  /** Bytes of one file. Default 16 MiB. */
  readonly fileBytes: number;
  /** Number of files. Default 10,000. */
  readonly files: number;
  /** Bytes of all files together. Default 1 GiB. */
  readonly taskBytes: number;
  /** Bytes of an imported zip archive, packed. Default 256 MiB. */
  readonly zipBytes: number;
}

/** The defaults of {@link TaskLimits}. */
export const defaultTaskLimits: TaskLimits = { fileBytes: 16 * 2 ** 20, files: 10_000, taskBytes: 2 ** 30, zipBytes: 256 * 2 ** 20 };
