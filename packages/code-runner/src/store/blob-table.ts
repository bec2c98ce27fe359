import { type Database, insertNew, type SqlRunner, skipLocked } from '@holdfast/core';

/** Hashes per statement. */
const atOnce = 500;

/** How long a process may take over the removal of the contents that it has doomed. Then another process does it. */
const takeOverMs = 120_000;

/**
 * The rows of stored contents, and of what manifests refer to. A content goes through these states:
 *
 * ```
 *  (no row) --touch--> live --doom: nothing refers to it, and look_at is past--> doomed --object removed--> (no row)
 * ```
 * A transaction that writes a reference holds a shared lock on the live row until it commits; `doom` locks the row for writing before it looks
 * for references, and so sees every reference that is committed, or skips the row. A doomed content is neither referred to nor written.
 */
export class BlobTable {
  readonly #database: Database;
  readonly #blobs: string;
  readonly #refs: string;
  readonly #graceMs: number;

  constructor(database: Database, graceMs: number) {
    this.#database = database;
    this.#blobs = database.table('runner_blob');
    this.#refs = database.table('runner_manifest_blob');
    this.#graceMs = Math.trunc(graceMs);
  }

  /** Gives a content a row, or another period of grace. Returns false if the content is being removed. */
  async touch(hash: string): Promise<boolean> {
    const values = `(hash, look_at) VALUES (?, {now} + ${this.#graceMs})`;
    if (this.#database.family !== 'mysql') {
      const touched = await this.#database.run(
        `INSERT INTO ${this.#blobs} AS b ${values} ON CONFLICT (hash) DO UPDATE SET look_at = excluded.look_at WHERE b.doomed_at IS NULL`,
        [hash],
      );
      return touched > 0;
    }
    await this.#database.run(
      `INSERT INTO ${this.#blobs} ${values} ON DUPLICATE KEY UPDATE look_at = IF(doomed_at IS NULL, VALUES(look_at), look_at)`,
      [hash],
    );
    // A live row that was touched stays for the period of grace; a doomed one is doomed still, or gone.
    return (await this.live(this.#database, [hash])).size === 1;
  }

  /** Gives many contents a row, unless they have one. */
  async addAll(sql: SqlRunner, hashes: readonly string[]): Promise<void> {
    for (const part of parts(hashes))
      await sql.run(
        insertNew(
          this.#database,
          `INTO ${this.#blobs} (hash, look_at) VALUES ${part.map(() => `(?, {now} + ${this.#graceMs})`).join(', ')}`,
        ),
        part,
      );
  }

  /** The contents among `hashes` that may be referred to. In a transaction they stay so until it ends. */
  async live(sql: Pick<SqlRunner, 'rows'>, hashes: readonly string[]): Promise<Set<string>> {
    // KEY SHARE: concurrent references and touches do not wait for each other.
    const lock = { postgres: ' FOR KEY SHARE', mysql: ' LOCK IN SHARE MODE', sqlite: '' }[this.#database.family];
    const live = new Set<string>();
    for (const part of parts([...new Set(hashes)].sort())) {
      const rows = await sql.rows<{ hash: string }>(
        `SELECT hash FROM ${this.#blobs}${this.#database.primaryKeyHint} WHERE hash IN (${marks(part)}) AND doomed_at IS NULL ORDER BY hash${lock}`,
        part,
      );
      for (const { hash } of rows) live.add(hash.trim());
    }
    return live;
  }

  /** Records the contents that a manifest refers to. They stay as long as the manifest does. */
  async refer(sql: SqlRunner, manifest: string, hashes: readonly string[]): Promise<void> {
    for (const part of parts([...new Set(hashes)].sort()))
      await sql.run(
        insertNew(this.#database, `INTO ${this.#refs} (manifest_hash, blob_hash) VALUES ${part.map(() => '(?, ?)').join(', ')}`),
        part.flatMap((hash) => [manifest, hash]),
      );
  }

  /**
   * Looks at up to `limit` contents whose period of grace is over. Those that something refers to get another period; the others are doomed, by
   * `owner`. Indexes: `(look_at)`, and one for each kind of reference.
   */
  async doom(owner: string, limit: number): Promise<{ readonly looked: number; readonly doomed: readonly string[] }> {
    const blobs = this.#blobs;
    return this.#database.transaction(async (sql) => {
      const due = await sql.rows<{ hash: string }>(
        `SELECT hash FROM ${blobs} WHERE doomed_at IS NULL AND look_at < {now} ORDER BY look_at LIMIT ${Math.trunc(limit)}${skipLocked(this.#database)}`,
      );
      const hashes = due.map(({ hash }) => hash.trim());
      if (hashes.length === 0) return { looked: 0, doomed: [] };
      // A statement of its own, after the locks: it sees the references that were committed before.
      const referred = await sql.rows<{ hash: string }>(
        [
          ['runner_file', 'blob_hash'],
          ['runner_run', 'manifest_hash'],
          ['runner_manifest_blob', 'blob_hash'],
        ]
          .map(
            ([table = '', column]) => `SELECT ${column} AS hash FROM ${this.#database.table(table)} WHERE ${column} IN (${marks(hashes)})`,
          )
          .join(' UNION '),
        [...hashes, ...hashes, ...hashes],
      );
      const kept = new Set(referred.map(({ hash }) => hash.trim()));
      const stay = hashes.filter((hash) => kept.has(hash));
      const doomed = hashes.filter((hash) => !kept.has(hash));
      if (stay.length > 0)
        await sql.run(
          `UPDATE ${blobs}${this.#database.primaryKeyHint} SET look_at = {now} + ${this.#graceMs} WHERE hash IN (${marks(stay)})`,
          stay,
        );
      if (doomed.length > 0)
        await sql.run(
          `UPDATE ${blobs}${this.#database.primaryKeyHint} SET doomed_at = {now}, doomed_by = ? WHERE hash IN (${marks(doomed)})`,
          [owner, ...doomed],
        );
      return { looked: hashes.length, doomed };
    });
  }

  /** Takes over contents that another process has doomed and not removed. */
  async takeOver(owner: string, limit: number): Promise<readonly string[]> {
    const left = `doomed_at < {now} - ${takeOverMs}`;
    const rows = await this.#database.rows<{ hash: string }>(
      `SELECT hash FROM ${this.#blobs} WHERE ${left} ORDER BY doomed_at LIMIT ${Math.trunc(limit)}`,
    );
    if (rows.length === 0) return [];
    const hashes = rows.map(({ hash }) => hash.trim());
    await this.#database.run(
      `UPDATE ${this.#blobs}${this.#database.primaryKeyHint} SET doomed_at = {now}, doomed_by = ? WHERE hash IN (${marks(hashes)}) AND ${left}`,
      [owner, ...hashes],
    );
    const ours = await this.#database.rows<{ hash: string }>(
      `SELECT hash FROM ${this.#blobs} WHERE hash IN (${marks(hashes)}) AND doomed_by = ?`,
      [...hashes, owner],
    );
    return ours.map(({ hash }) => hash.trim());
  }

  /** Forgets contents whose objects were removed, unless another process has taken them over. From now on they may be written again. */
  async removed(owner: string, hashes: readonly string[]): Promise<void> {
    if (hashes.length === 0) return;
    await this.#database.run(`${this.#database.deleteByPrimaryKey(this.#refs)} WHERE manifest_hash IN (${marks(hashes)})`, hashes);
    await this.#database.run(`${this.#database.deleteByPrimaryKey(this.#blobs)} WHERE hash IN (${marks(hashes)}) AND doomed_by = ?`, [
      ...hashes,
      owner,
    ]);
  }
}

function marks(values: readonly string[]): string {
  return values.map(() => '?').join(', ');
}

function* parts(hashes: readonly string[]): Generator<readonly string[]> {
  for (let at = 0; at < hashes.length; at += atOnce) yield hashes.slice(at, at + atOnce);
}
