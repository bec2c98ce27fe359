import type { Readable } from 'node:stream';
import type { Language } from '../languages/language.ts';
import type { Observed } from '../runs/decide.ts';
import type { RunLimits } from '../runs/limits.ts';

/** Names what is started: one per attempt of a run. */
export interface ExecutionRef {
  readonly runId: string;
  readonly attempt: number;
  readonly jobUid: string;
}

/** What to start. */
export interface ExecutionSpec extends ExecutionRef {
  readonly taskId: string;
  readonly actor: string;
  readonly language: Language;
  /** Program and arguments, in `/code`. */
  readonly command: readonly string[];
  readonly limits: RunLimits;
  /** What appears under `/code`. */
  readonly files: readonly { readonly path: string; readonly size: number; readonly open: () => Promise<Readable | Uint8Array> }[];
  /** What appears under `/data`. */
  readonly dataSets: readonly { readonly path: string; readonly object: string; readonly open: () => Promise<Readable | Uint8Array> }[];
  /** An address of an object of the file store, where it has such; for executors whose programs run elsewhere. */
  readonly url?: ((object: string) => Promise<string>) | undefined;
  /** Keeps an object for this run, and returns its name; for files that are too large to go along. */
  readonly keep?: (name: string, content: Buffer) => Promise<string>;
}

/** A piece of what a program prints. */
export interface LogPiece {
  readonly stream: 'stdout' | 'stderr';
  readonly bytes: Uint8Array;
  /** Where the piece ends: what `logs` takes as `after` to go on behind it. */
  readonly position: string;
}

/** A file that a program left in `/out`. */
export interface OutputFile {
  readonly path: string;
  readonly size: number;
  readonly content: Readable;
}

/** What an executor can do here. */
export interface Isolation {
  /** For example `bubblewrap: namespaces, seccomp, cgroups v1`. */
  readonly summary: string;
  readonly details: Readonly<Record<string, string | boolean>>;
}

/**
 * Runs programs. Everything may be called again, by another process too: nothing here is remembered that a crash would lose, but what
 * ends with the process.
 */
export interface Executor {
  readonly name: string;
  /** Whether what it starts ends with this process, or is seen and steered by all. */
  readonly scope: 'process' | 'cluster';
  /** @throws ExecutorUnavailableError that says what is missing and what to do */
  probe(): Promise<Isolation>;
  /** Starts it, unless it is there: then nothing happens. An error that is not `retryable` fails the run. */
  start(spec: ExecutionSpec, options: { readonly signal: AbortSignal }): Promise<void>;
  /** What there is of it, now and at each change, until it has ended or is gone; `undefined`: there is nothing. */
  observe(ref: ExecutionRef, options: { readonly signal: AbortSignal }): AsyncIterable<Observed | undefined>;
  /** What the program prints, from behind `after` on, until it has ended. */
  logs(ref: ExecutionRef, options: { readonly after: string | null; readonly signal: AbortSignal }): AsyncIterable<LogPiece>;
  /** What it left in `/out`; asked for once it has ended. Not more than about `limit` bytes: `truncated` is told where there is more. */
  output(ref: ExecutionRef, options: { readonly limit: number; readonly truncated: () => void }): AsyncIterable<OutputFile>;
  /** Asks it to end; after `graceMs`, it is ended. `because` is what it is said to have ended by, unless it ends by itself before. */
  stop(ref: ExecutionRef, options: { readonly graceMs: number; readonly because?: 'OUTPUT_LIMIT' }): Promise<void>;
  /** Removes what is left of it. Nothing there is no error. */
  remove(ref: ExecutionRef): Promise<void>;
  /** Everything that there is. */
  list(): Promise<readonly (Observed & ExecutionRef)[]>;
  /** Ends what belongs to this process. */
  close(): Promise<void>;
}
