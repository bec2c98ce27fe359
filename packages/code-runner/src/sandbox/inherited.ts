import { readdirSync, readFileSync } from 'node:fs';
import { ExecutorUnavailableError } from '../errors.ts';

/** O_CLOEXEC on Linux. Node opens all of its own descriptors with it. */
const closeOnExec = 0o2000000;

/** The highest number of a descriptor that is covered: the list of a child's descriptors is as long as it. */
const highest = 65_535;

/**
 * The descriptors from 3 on that a program would inherit: those with which this process was started (by a shell's `200</srv`, a service
 * manager or a container) and that native code has opened without O_CLOEXEC.
 * @throws ExecutorUnavailableError if the number of one is too high to be covered
 */
export function inheritable(): number[] {
  const found: number[] = [];
  // Where there is no sandbox either, programs are plain processes of this user, with this machine's files.
  if (process.platform !== 'linux') return found;
  for (const name of readdirSync('/proc/self/fd')) {
    const fd = Number(name);
    if (fd < 3 || !survivesExec(fd)) continue;
    if (fd > highest)
      throw new ExecutorUnavailableError(
        `This process has inherited the file descriptor ${fd}, which programs would inherit too. Start it without it, or with a number up to ${highest}.`,
      );
    found.push(fd);
  }
  return found;
}

function survivesExec(fd: number): boolean {
  try {
    const flags = /^flags:\s+(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1];
    return flags !== undefined && (Number.parseInt(flags, 8) & closeOnExec) === 0;
  } catch {
    // It was closed meanwhile, as the one that lists the folder is.
    return false;
  }
}

/**
 * A child's list of descriptors with `/dev/null` in place of each that it would inherit. Node can't close them in the child, and a shell can't
 * close those above 9.
 */
export function withoutInherited<Stdio>(
  own: readonly Stdio[],
  ignore: Stdio,
  devNull: number,
  inherited: readonly number[],
): (Stdio | number)[] {
  const all: (Stdio | number)[] = [...own];
  for (const fd of inherited) {
    while (all.length <= fd) all.push(ignore);
    if (all[fd] === ignore) all[fd] = devNull;
  }
  return all;
}

/** A shell script that prints `open N TARGET` for each descriptor from 3 on that leads anywhere but to `/dev/null`. */
export const listOpen =
  'for n in /proc/$$/fd/*; do n=${n##*/}; [ "$n" -gt 2 ] && [ -e /proc/$$/fd/$n ] || continue; to=$(readlink /proc/$$/fd/$n); case $to in */null) [ -c /proc/$$/fd/$n ] && continue;; esac; echo "open $n $to"; done';
