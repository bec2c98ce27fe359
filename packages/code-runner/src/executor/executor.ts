import type { Readable } from 'node:stream';
import type { Language } from '../languages/language.ts';
import type { Observed } from '../runs/decide.ts';
import type { RunLimits } from '../runs/limits.ts';

/** Names an execution: one attempt of a run. */
export interface ExecutionRef {
  readonly runId: string;
  readonly attempt: number;
  readonly jobUid: string;
}

/** An execution to start. */
export interface ExecutionSpec extends ExecutionRef {
  readonly taskId: string;
  readonly actor: string;
  readonly language: Language;
  /** Program and arguments; the working directory is `/code`. */
  readonly command: readonly string[];
  readonly limits: RunLimits;
  /** Environment variables, which go before those of the language. Default: none. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Path of the one of `files` that is the program's standard input. It has letters, digits, dots and hyphens only. Default: nothing to read. */
  readonly stdinFile?: string;
  /** Files that appear under `/code`. */
  readonly files: readonly { readonly path: string; readonly size: number; readonly open: () => Promise<Readable | Uint8Array> }[];
  /** Data sets that appear under `/data`. */
  readonly dataSets: readonly { readonly path: string; readonly object: string; readonly open: () => Promise<Readable | Uint8Array> }[];
  /**
   * Returns an address from which an object of the file store can be fetched; for executors whose programs run elsewhere. Missing if the
   * store has no addresses.
   */
  readonly url?: ((object: string) => Promise<string>) | undefined;
  /** Stores an object for this run, and returns its name; for files that are too large for the executor to send along. */
  readonly keep?: (name: string, content: Buffer) => Promise<string>;
}

/** A piece of a program's output. */
export interface LogPiece {
  readonly stream: 'stdout' | 'stderr';
  readonly bytes: Uint8Array;
  /** Position of the end of the piece: pass it to `logs` as `after` to continue from there. */
  readonly position: string;
}

/** A file from a program's `/out`. */
export interface OutputFile {
  readonly path: string;
  readonly size: number;
  readonly content: Readable;
}

/** The isolation that a probe has found. */
export interface Isolation {
  /** For example `bubblewrap: namespaces, seccomp, cgroups v1`. */
  readonly summary: string;
  readonly details: Readonly<Record<string, string | boolean>>;
}

/**
 * Runs programs. Every method may be called again, also by another process: an executor keeps no state that a crash would lose, except
 * that of programs that end with its process.
 */
export interface Executor {
  readonly name: string;
  /** `process`: programs end with this process. `cluster`: they continue without it, and every process sees and steers them. */
  readonly scope: 'process' | 'cluster';
  /** Checks that programs can be started. @throws ExecutorUnavailableError that says what is missing and how to fix it */
  probe(): Promise<Isolation>;
  /** Starts an execution, unless it exists. A HoldfastError that is not `retryable` fails the run; other errors are retried. */
  start(spec: ExecutionSpec, options: { readonly signal: AbortSignal }): Promise<void>;
  /** Yields the state of an execution now and at each change, until it has ended or is gone. `undefined` means that it does not exist. */
  observe(ref: ExecutionRef, options: { readonly signal: AbortSignal }): AsyncIterable<Observed | undefined>;
  /** Yields the output of the program after position `after` (`null`: from its start), until the program has ended. */
  logs(ref: ExecutionRef, options: { readonly after: string | null; readonly signal: AbortSignal }): AsyncIterable<LogPiece>;
  /** Yields the files in `/out`, after the program has ended: about `limit` bytes at most. `truncated` is called if files are left out. */
  output(ref: ExecutionRef, options: { readonly limit: number; readonly truncated: () => void }): AsyncIterable<OutputFile>;
  /** Asks the program to end, and kills it after `graceMs`. `because` becomes the reason of its end, unless it ends by itself before. */
  stop(ref: ExecutionRef, options: { readonly graceMs: number; readonly because?: 'OUTPUT_LIMIT' }): Promise<void>;
  /** Removes an execution, which need not exist. */
  remove(ref: ExecutionRef): Promise<void>;
  /** Lists all executions. */
  list(): Promise<readonly (Observed & ExecutionRef)[]>;
  /** Ends the executions that belong to this process, and closes connections. */
  close(): Promise<void>;
}
