import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

export interface Report {
  readonly received: number;
  /** From the trigger to the receiver, in ms. */
  readonly p50: number;
  readonly p99: number;
  readonly n: number;
}

/** Fast receivers on ports of their own, in another process. */
export interface Receivers {
  readonly urls: readonly string[];
  readonly ports: readonly number[];
  /** Makes the first `n` receivers hang: they no longer answer. */
  hang(n: number): void;
  /** Returns what was received since the last report. */
  report(): Promise<Report>;
  close(): Promise<void>;
}

export async function receivers(count: number): Promise<Receivers> {
  const child = fork(join(import.meta.dirname, 'receiver-process.ts'), [String(count)], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const [{ ports }] = (await once(child, 'message')) as [{ ports: number[] }];
  return {
    ports,
    urls: ports.map((port) => `http://127.0.0.1:${port}/hook`),
    hang: (n) => void child.send({ hang: n }),
    async report() {
      child.send({ report: true });
      const [report] = (await once(child, 'message')) as [Report];
      return report;
    },
    async close() {
      child.disconnect();
      await once(child, 'exit');
    },
  };
}
