import type { Logger } from '@holdfast/core';
import type { Blobs } from '../store/blobs.ts';
import { type Manifest, thaw } from './manifest.ts';
import type { RunRow } from './run.ts';

/** Copies that are requested at a time. */
const concurrency = 16;

/**
 * Writes the snapshot of each run under the run's own names, for readers of the bucket: `<jobUid>/code/…` and `<jobUid>/data/…`. Programs do not
 * read these copies. They are made by the server, in stores that can copy; other stores have no readers of names, and get none.
 */
export class RunFolders {
  readonly #blobs: Blobs;
  readonly #logger: Logger;

  constructor(blobs: Blobs, logger: Logger) {
    this.#blobs = blobs;
    this.#logger = logger;
  }

  /** Writes the folder of a run. A failure is logged: the run does not need the folder, and its start tries again. */
  async write(run: RunRow, manifest: Manifest): Promise<void> {
    const { store } = this.#blobs;
    if (!store.copy) return;
    try {
      const { last, others } = copiesOf(this.#blobs, run, manifest);
      await Promise.all(
        Array.from({ length: concurrency }, async () => {
          for (let next = others.pop(); next; next = others.pop()) await store.copy?.(next.from, next.to);
        }),
      );
      // The last one shows that all are there.
      if (last) await store.copy(last.from, last.to);
    } catch (err) {
      this.#logger.warn({ err, runId: run.id }, 'the files of a run could not be copied to its folder in the file store; the run goes on');
    }
  }

  /** Writes the folder of a run whose submit died, or failed, before it had written it. */
  async ensure(run: RunRow): Promise<void> {
    const { store } = this.#blobs;
    if (!store.copy || run.manifestHash === null) return;
    const manifest = await thaw(this.#blobs, run.manifestHash);
    const { last } = copiesOf(this.#blobs, run, manifest);
    if (last && (await store.size(last.to)) === undefined) await this.write(run, manifest);
  }
}

interface Copy {
  readonly from: string;
  readonly to: string;
}

function copiesOf(blobs: Blobs, run: RunRow, { files, dataSets }: Manifest): { readonly last: Copy | undefined; readonly others: Copy[] } {
  const copies = [
    ...dataSets.map(({ path, object }) => ({ from: object, to: `${run.jobUid}/data/${path}` })),
    ...files.map(({ path, blob }) => ({ from: blobs.nameOf(blob), to: `${run.jobUid}/code/${path}` })),
  ];
  return { last: copies.at(-1), others: copies.slice(0, -1) };
}
