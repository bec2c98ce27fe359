import type { ExecutionRef, Executor } from '../executor/executor.ts';
import type { Output } from '../runs/run.ts';
import type { FileStore } from '../store/file-store.ts';

/** The highest number of files that are kept per run. */
const mostFiles = 10_000;

/** Copies the files in `/out` into the store, at most `most` bytes. */
export async function collectOutput(executor: Executor, store: FileStore, ref: ExecutionRef, most: number): Promise<Output> {
  const files: { path: string; size: number }[] = [];
  let bytes = 0;
  let truncated = false;
  const options = {
    limit: most,
    truncated: () => {
      truncated = true;
    },
  };
  for await (const { path, size, content } of executor.output(ref, options)) {
    if (bytes + size > most || files.length >= mostFiles) {
      truncated = true;
      content.destroy();
      continue;
    }
    await store.put(`${ref.jobUid}/out/${path}`, content, size);
    bytes += size;
    files.push({ path, size });
  }
  return { files, truncated };
}
