import type { Blobs } from '../store/blobs.ts';
import { spool } from '../store/spool.ts';
import type { DataSet } from '../tasks/data-sets.ts';
import type { FileRow } from '../tasks/file-table.ts';
import type { RunInput } from './input.ts';

/** The files of a task at the time of a submit, and what the program of the run is given. Stored by its digest, so that runs of the same files share it. */
export interface Manifest {
  readonly files: readonly { readonly path: string; readonly size: number; readonly blob: string }[];
  readonly dataSets: readonly DataSet[];
  readonly input?: RunInput;
}

/** Stores the manifest of a run and returns its digest. */
export async function freeze(blobs: Blobs, files: readonly FileRow[], dataSets: readonly DataSet[], input: RunInput): Promise<string> {
  const manifest: Manifest = {
    files: files.map(({ path, size, blob }) => ({ path, size, blob })),
    dataSets,
    ...(Object.keys(input).length > 0 ? { input } : {}),
  };
  await using spooled = await spool(JSON.stringify(manifest), Number.MAX_SAFE_INTEGER, 'the manifest');
  await blobs.keep(spooled);
  return spooled.hash;
}

export async function thaw(blobs: Blobs, hash: string): Promise<Manifest> {
  return JSON.parse((await blobs.read(hash)).toString()) as Manifest;
}
