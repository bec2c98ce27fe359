import { type ChildProcess, type StdioNull, type StdioPipe, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import { inheritable, withoutInherited } from './inherited.ts';
import type { Launch } from './launch.ts';

/** The process of a launch, and the streams to and from it. */
export interface StartedProcess {
  readonly child: ChildProcess;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Status of bubblewrap. */
  readonly status: Readable;
  /** Bubblewrap continues when this ends. */
  readonly block: Writable;
  /** Reports of the supervisor. */
  readonly reports: Readable;
  /** Commands for the supervisor. */
  readonly commands: Writable;
}

/** Starts bubblewrap, or the supervisor itself. Descriptors of this process that the child doesn't need stay here. */
export function startProcess(launch: Launch): StartedProcess {
  const open: number[] = [];
  const kept = (fd: number): number => {
    open.push(fd);
    return fd;
  };
  const reads: number[] = [];
  try {
    const pipe = (): number => {
      const { read, write } = launch.pipes.open(launch.user);
      reads.push(read);
      return kept(write);
    };
    const [stdout, stderr] = [pipe(), pipe()];
    const filter = launch.seccomp === undefined ? undefined : kept(openSync(launch.seccomp, 'r'));
    const devNull = kept(openSync('/dev/null', 'r'));
    const own = ['ignore', stdout, stderr, 'pipe', 'pipe', filter ?? 'ignore', 'pipe', 'pipe'] as const;
    const child = spawn(launch.file, launch.args, {
      cwd: launch.cwd,
      // The program sees nothing of this process's environment.
      env: launch.environment as NodeJS.ProcessEnv,
      stdio: withoutInherited<StdioNull | StdioPipe | number>(own, 'ignore', devNull, inheritable()),
      ...(launch.user === undefined ? {} : { uid: launch.user, gid: launch.user }),
      detached: !launch.wrapped,
    });
    const [, , , status, block, , reports, commands] = child.stdio as unknown as [
      null,
      null,
      null,
      Readable,
      Writable,
      null,
      Readable,
      Writable,
    ];
    for (const stream of [status, block, reports, commands]) stream.on('error', () => undefined);
    const [out, err] = reads.splice(0).map((fd) => new Socket({ fd, readable: true, writable: false })) as [Socket, Socket];
    return { child, stdout: out, stderr: err, status, block, reports, commands };
  } finally {
    // The child has its own copies by now; a pipe ends when the last copy of its other end is closed.
    for (const fd of [...open, ...reads]) closeSync(fd);
  }
}
