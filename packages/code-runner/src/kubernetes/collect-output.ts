import { Readable } from 'node:stream';
import { type Logger, wait } from '@holdfast/core';
import type { OutputFile } from '../executor/executor.ts';
import { unpackFiles } from './archive.ts';
import { ApiRefusal, type KubernetesApi } from './kubernetes-api.ts';
import { podLog } from './pod-log.ts';

/** How long to wait for the results of a program that has ended. */
const resultsMs = 30_000;

interface CollectOptions {
  readonly limit: number;
  readonly truncated: () => void;
  readonly runId: string;
  readonly logger: Logger;
}

/** Reads the files in `/out` from the log of the `results` container, which prints them packed after the program has ended. */
export async function* collectOutput(
  api: KubernetesApi,
  pod: string,
  { limit, truncated, runId, logger }: CollectOptions,
): AsyncGenerator<OutputFile> {
  const signal = AbortSignal.timeout(resultsMs);
  let text = '';
  let position: string | null = null;
  for (let pauseMs = 100; !/^end$/m.test(text); pauseMs = Math.min(pauseMs * 2, 1_000)) {
    try {
      for await (const piece of podLog(api, pod, {
        container: 'results',
        after: position,
        follow: true,
        signal,
        idleMs: 5_000,
      })) {
        text += Buffer.from(piece.bytes).toString('latin1');
        position = piece.position;
      }
    } catch (err) {
      if (signal.aborted || (err instanceof ApiRefusal && err.status === 404)) {
        logger.warn({ err, runId }, 'the results of a run could not be read');
        return;
      }
    }
    if (signal.aborted) return;
    if (!/^end$/m.test(text)) await wait(pauseMs, signal).catch(() => undefined);
  }
  const packed = Buffer.from(text.replace(/^end$/m, ''), 'base64');
  const { files, truncated: more } = await unpackFiles(packed, limit);
  if (more) truncated();
  for (const { path, content } of files) yield { path, size: content.length, content: Readable.from([content], { objectMode: false }) };
}
