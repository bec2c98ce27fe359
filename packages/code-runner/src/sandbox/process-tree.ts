import { existsSync, readdirSync, readFileSync } from 'node:fs';

/** A process and all its descendants, the process first. What starts while this looks may be missed: look again. */
export function processTree(root: number): number[] {
  const found = [root];
  // Grows while it is walked.
  for (const pid of found) found.push(...childrenOf(pid));
  return found;
}

function childrenOf(pid: number): number[] {
  const children: number[] = [];
  try {
    for (const thread of readdirSync(`/proc/${pid}/task`))
      for (const child of readFileSync(`/proc/${pid}/task/${thread}/children`, 'utf8').split(' '))
        if (child.trim()) children.push(Number(child));
  } catch {
    // It has ended.
  }
  return children;
}

/** Whether it exists and is no corpse that waits for its parent. */
export function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return existsSync(`/proc/${pid}/status`);
  }
}

export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It has ended.
  }
}
