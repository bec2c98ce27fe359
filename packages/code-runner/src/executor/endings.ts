import { constants } from 'node:os';
import type { RunLimits } from '../runs/limits.ts';
import type { Ending, Reason } from '../runs/states.ts';

/** The exit of a program. */
export interface Exit {
  readonly code: number;
  /** The stage in which the program ended. */
  readonly stage?: 'compile' | 'run' | undefined;
  /** False if the program itself exited with this code, though it is above 128. Default: not known, so that it counts as a signal. */
  readonly signalled?: boolean;
  /** A further sentence for the owner. */
  readonly more?: string;
}

/** The end of a program that ended by itself. All executors use it, so that equal exits get equal messages. */
export function endingOf(exit: Exit): Ending {
  const { exitCode, signal } = exit.signalled === false ? { exitCode: exit.code, signal: null } : exitOf(exit.code);
  const more = exit.more ?? '';
  if (exitCode === 0) return { state: 3, reason: null, message: 'The program has finished.', exitCode, signal };
  if (exit.stage === 'compile') return failed('COMPILE', `The program could not be compiled; the log says why.${more}`, exit.code);
  if (signal !== null) return failed('SIGNAL', `The program was ended by ${signal} (exit code ${exitCode}).${more}`, exit.code);
  const message = `The program ended with exit code ${exitCode}.${more}`;
  return { state: 4, reason: 'EXIT_NONZERO', message, exitCode, signal };
}

/** The ends of a program that exceeded a limit. */
export const overLimit = {
  memory: (limits: RunLimits, code?: number): Ending =>
    failed('OOM', `The program needed more memory than the ${bytesText(limits.memoryBytes)} it may use, and was ended.`, code),
  time: (limits: RunLimits, code?: number, more = ''): Ending =>
    failed('TIMEOUT', `The program ran longer than ${msText(limits.timeoutMs)} and was ended.${more}`, code),
  output: (limits: RunLimits, code?: number): Ending =>
    failed('OUTPUT_LIMIT', `The program printed more than ${bytesText(limits.outputBytes)} and was ended.`, code),
  filesInMemory: (limits: RunLimits, bytes: number, code?: number): Ending =>
    failed(
      'DISK',
      `The program's files in /scratch, /tmp, /out and /dev/shm took ${bytesText(bytes)}. They count as memory, of which it may use ${bytesText(limits.memoryBytes)}, and it was ended.`,
      code,
    ),
  disk: (limits: RunLimits, place: string, code?: number): Ending =>
    failed('DISK', `The program filled ${place}: at most ${bytesText(limits.diskBytes)} fit there.`, code),
};

export function failed(reason: Reason, message: string, code?: number): Ending {
  return { state: 4, reason, message, ...(code === undefined ? {} : exitOf(code)) };
}

/** Splits a shell's exit code into code and signal. A program that itself exits with 128 + n looks as if signal n had ended it. */
export function exitOf(code: number): { readonly exitCode: number; readonly signal: string | null } {
  const name =
    code > 128 && code < 128 + 65 ? Object.entries(constants.signals).find(([, number]) => number === code - 128)?.[0] : undefined;
  return { exitCode: code, signal: name ?? null };
}

/**
 * Tells from a shell's messages whether a signal ended the program that it reports with `code`. Of a job it says so in a line such as `[1] + Interrupt`,
 * or `[1] + Done(130)`. Of other programs it says so in a line such as `Killed`, but not for SIGINT and SIGPIPE.
 */
export function wasSignalled(messages: string, code: number): boolean {
  const { signal } = exitOf(code);
  const job = /^\[\d+\]\s*[+-]?\s*(\S.*)$/m.exec(messages)?.[1];
  if (job !== undefined) return signal !== null && !job.startsWith('Done');
  if (signal === null || signal === 'SIGINT' || signal === 'SIGPIPE') return signal !== null;
  return messages.split('\n').some((line) => line !== '' && !/^(?:(?:compile|run) \d+|drained|missing|(?:\d+m[\d.]+s ?){2})$/.test(line));
}

function bytesText(bytes: number): string {
  for (const [unit, size] of [
    ['GiB', 2 ** 30],
    ['MiB', 2 ** 20],
    ['KiB', 2 ** 10],
  ] as const)
    if (bytes >= size) return `${Number((bytes / size).toFixed(1))} ${unit}`;
  return `${bytes} bytes`;
}

function msText(ms: number): string {
  if (ms >= 120_000) return `${Number((ms / 60_000).toFixed(1))} minutes`;
  return `${Number((ms / 1_000).toFixed(1))} s`;
}
