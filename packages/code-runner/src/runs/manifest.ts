import type { SqlRunner } from '@holdfast/core';
import type { BlobTable } from '../store/blob-table.ts';
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

export interface FreezeHost {
  readonly blobs: Blobs;
  readonly blobTable: BlobTable;
  readonly database: { transaction<T>(work: (sql: SqlRunner) => Promise<T>): Promise<T> };
}

/**
 * Stores the manifest of a run with what it refers to, and returns its digest. Until a run refers to it, the sweep keeps it for its period of
 * grace; the submit's transaction checks that it is still there.
 */
export async function freeze(
  { blobs, blobTable, database }: FreezeHost,
  files: readonly FileRow[],
  dataSets: readonly DataSet[],
  input: RunInput,
): Promise<string> {
  await using spooled = await spool(JSON.stringify(manifestOf(files, dataSets, input)), Number.MAX_SAFE_INTEGER, 'the manifest');
  if (blobs.isRecorded(spooled.hash)) return spooled.hash;
  await blobs.whileKept([spooled], () =>
    database.transaction(async (sql) => {
      await blobs.refer(sql, [spooled.hash]);
      await blobTable.refer(
        sql,
        spooled.hash,
        files.map(({ blob }) => blob),
      );
    }),
  );
  blobs.recorded(spooled.hash);
  return spooled.hash;
}

export function manifestOf(files: readonly FileRow[], dataSets: readonly DataSet[], input: RunInput): Manifest {
  return {
    files: files.map(({ path, size, blob }) => ({ path, size, blob })),
    dataSets,
    ...(Object.keys(input).length > 0 ? { input } : {}),
  };
}

export async function thaw(blobs: Blobs, hash: string): Promise<Manifest> {
  return JSON.parse((await blobs.read(hash)).toString()) as Manifest;
}
