import type { Blobs } from '../store/blobs.ts';
import { spool } from '../store/spool.ts';
import type { DataSet } from '../tasks/data-sets.ts';
import type { FileRow } from '../tasks/file-table.ts';

/** The files of a task at the time of a submit. Stored by its digest, so that runs of the same files share it. */
export interface Manifest {
  readonly files: readonly { readonly path: string; readonly size: number; readonly blob: string }[];
  readonly dataSets: readonly DataSet[];
}

/** Stores the manifest of a run and returns its digest. */
export async function freeze(blobs: Blobs, files: readonly FileRow[], dataSets: readonly DataSet[]): Promise<string> {
  const manifest: Manifest = { files: files.map(({ path, size, blob }) => ({ path, size, blob })), dataSets };
  await using spooled = await spool(JSON.stringify(manifest), Number.MAX_SAFE_INTEGER, 'the manifest');
  await blobs.keep(spooled);
  return spooled.hash;
}

export async function thaw(blobs: Blobs, hash: string): Promise<Manifest> {
  return JSON.parse((await blobs.read(hash)).toString()) as Manifest;
}
