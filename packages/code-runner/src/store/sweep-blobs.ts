import { checkpoint, type Database, type Logger, monotonicMs, uuidv7 } from '@holdfast/core';
import { NotFoundError } from '../errors.ts';
import { type Manifest, thaw } from '../runs/manifest.ts';
import type { BlobTable } from './blob-table.ts';
import type { Blobs } from './blobs.ts';

/** Contents that one pass looks at. */
const looksPerPass = 500;
/** Manifests of an earlier version whose references one pass records. */
const manifestsPerPass = 50;
/** A removal that has not begun by then is left to another pass: meanwhile another process may have taken it over. */
const removalMs = 60_000;

export interface SweepHost {
  readonly database: Database;
  readonly blobs: Blobs;
  readonly blobTable: BlobTable;
  readonly logger: Logger;
}

/**
 * Makes one pass over stored contents, and removes those that no file, no run and no manifest refers to. The work of a pass is bounded. Returns
 * the number of contents removed.
 */
export async function sweepBlobs(host: SweepHost): Promise<number> {
  const { blobTable } = host;
  const owner = uuidv7();
  const begin = monotonicMs();
  // Before all manifests are read, nobody knows what older runs refer to.
  if (!(await recordOlder(host))) return 0;
  const { doomed } = await blobTable.doom(owner, looksPerPass);
  await checkpoint('runner:doomed');
  const all = [...doomed, ...(await blobTable.takeOver(owner, looksPerPass))];
  if (all.length === 0 || monotonicMs() > begin + removalMs) return 0;
  await host.blobs.remove(all);
  await blobTable.removed(owner, all);
  return all.length;
}

/** Records what the manifests refer to that were stored by an earlier version. Returns true if there are no more of them. */
async function recordOlder({ database, blobs, blobTable, logger }: SweepHost): Promise<boolean> {
  const runs = database.table('runner_run');
  const rows = await database.rows<{ manifest_hash: string }>(
    `SELECT manifest_hash FROM ${runs} WHERE manifest_recorded = 0 AND manifest_hash IS NOT NULL LIMIT ${manifestsPerPass}`,
  );
  for (const hash of new Set(rows.map((row) => row.manifest_hash.trim()))) {
    const manifest = await thaw(blobs, hash).catch((err): Manifest => {
      if (!NotFoundError.is(err, 'not-found')) throw err;
      logger.warn({ err, manifest: hash }, 'the manifest of older runs is not in the file store; their files cannot be downloaded');
      return { files: [], dataSets: [] };
    });
    const contents = manifest.files.map(({ blob }) => blob);
    await database.transaction(async (sql) => {
      await blobTable.addAll(sql, [...new Set([hash, ...contents])].sort());
      await blobTable.refer(sql, hash, contents);
      await sql.run(`UPDATE ${runs} SET manifest_recorded = 1 WHERE manifest_hash = ? AND manifest_recorded = 0`, [hash]);
    });
  }
  return rows.length < manifestsPerPass;
}
