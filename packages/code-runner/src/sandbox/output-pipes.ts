import { spawnSync } from 'node:child_process';
import { chownSync, closeSync, constants, mkdirSync, openSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { ExecutorUnavailableError } from '../errors.ts';

/** The two ends of a pipe, as file descriptors. Whoever opens a pipe closes both. */
export interface PipeEnds {
  readonly read: number;
  readonly write: number;
}

/** Pipes that are made at a time: starting `mkfifo` takes about as long as starting a program. */
const batch = 64;

/**
 * Pipes for what programs print. Node itself gives a child process sockets, and the kernel refuses to open a socket by name: `/dev/stdout`
 * and `/dev/stderr` would fail with ENXIO. Node can't make a pipe either, so they are made with a name, which is removed once both ends are open.
 */
export class OutputPipes {
  readonly #folder: () => string;
  readonly #names: string[] = [];
  #made = 0;

  /** `folder` returns a folder of this process, which exists. */
  constructor(folder: () => string) {
    this.#folder = folder;
  }

  /**
   * Opens a pipe that nobody else has, and that `user` may open by its descriptor (default: the user of this process).
   * @throws ExecutorUnavailableError if this machine has no `mkfifo`
   */
  open(user: number | undefined): PipeEnds {
    if (this.#names.length === 0) this.#make();
    const name = this.#names.pop() as string;
    try {
      if (user !== undefined) chownSync(name, user, user);
      // Without O_NONBLOCK, opening waits for the other end. The program's end must not have it: its writes wait for the reader.
      const read = openSync(name, constants.O_RDONLY | constants.O_NONBLOCK);
      try {
        return { read, write: openSync(name, constants.O_WRONLY) };
      } catch (error) {
        closeSync(read);
        throw error;
      }
    } finally {
      unlinkSync(name);
    }
  }

  #make(): void {
    const folder = join(this.#folder(), 'pipes');
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const names = Array.from({ length: batch }, () => join(folder, String(++this.#made)));
    const { error, status, stderr } = spawnSync('mkfifo', ['-m', '600', ...names], { encoding: 'utf8' });
    if (status !== 0)
      throw new ExecutorUnavailableError(
        `No pipes can be made for the output of programs: mkfifo in ${folder} failed (${(error?.message ?? stderr).trim().slice(0, 500)}). Install coreutils, or choose a folder that may hold pipes.`,
        { cause: error, retryable: true },
      );
    this.#names.push(...names);
  }
}
