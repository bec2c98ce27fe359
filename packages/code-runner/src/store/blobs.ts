import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { checkpoint, monotonicMs, type SqlRunner, wait } from '@holdfast/core';
import { FileStoreError, UploadCutError } from '../errors.ts';
import type { BlobTable } from './blob-table.ts';
import type { FileStore } from './file-store.ts';
import type { Spooled } from './spool.ts';

const smallBytes = 65_536;
const smallCount = 256;
const knownCount = 10_000;

/** How long a write waits for the removal of the same content. */
const removalMs = 10_000;

export interface BlobsOptions {
  readonly store: FileStore;
  readonly table: BlobTable;
  /** How long a content stays that nothing refers to. */
  readonly graceMs: number;
}

/** Contents by their digest. A content that exists is not written again, so repeated runs of the same files cost nothing. */
export class Blobs {
  readonly store: FileStore;
  readonly #table: BlobTable;
  readonly #knownMs: number;
  /** Digests that are known to exist, with the time until which they are: well within the grace that the touch of their row began. */
  readonly #known = new Map<string, number>();
  /** Digests of known manifests whose references are recorded. */
  readonly #recorded = new Set<string>();
  readonly #small = new Map<string, Buffer>();

  constructor({ store, table, graceMs }: BlobsOptions) {
    this.store = store;
    this.#table = table;
    this.#knownMs = Math.min(graceMs / 2, 3_600_000);
  }

  /** Stores a content, and keeps it from the sweep for the period of grace. */
  async keep(content: Spooled): Promise<void> {
    const now = monotonicMs();
    if ((this.#known.get(content.hash) ?? 0) > now) return;
    this.#forget(content.hash);
    const name = blobName(content.hash);
    // The row first: the sweep removes no object of a row that was touched.
    while (!(await this.#table.touch(content.hash))) {
      if (monotonicMs() > now + removalMs)
        throw new FileStoreError(`The content ${content.hash} is being removed from ${this.store.name}. Send it again in two minutes.`, {
          retryable: true,
        });
      await wait(50);
    }
    const bytes = content.content();
    if (bytes instanceof Uint8Array) this.#remember(content.hash, Buffer.from(bytes));
    if ((await this.store.size(name)) !== content.size) await this.store.put(name, bytes, content.size);
    else if (!(bytes instanceof Uint8Array)) bytes.destroy();
    if (this.#known.size > knownCount) {
      this.#known.clear();
      this.#recorded.clear();
    }
    this.#known.set(content.hash, now + this.#knownMs);
  }

  /**
   * Stores contents and calls `work`, whose transaction refers to them by {@link refer}. If the sweep has removed one before that, because storing
   * took longer than the period of grace, both are done again.
   */
  async whileKept<T>(contents: readonly Spooled[], work: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      for (const content of contents) await this.keep(content);
      await checkpoint('runner:kept');
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof BlobGoneError) || attempt === 3) throw error;
      }
    }
  }

  /**
   * Keeps contents from the sweep until the transaction ends, which writes references to them.
   * @throws UploadCutError if the sweep has removed one
   */
  async refer(sql: SqlRunner, hashes: readonly string[]): Promise<void> {
    const gone = await this.gone(sql, hashes);
    if (gone.length > 0)
      throw new BlobGoneError(`${gone.length} of ${hashes.length} contents were removed before a file referred to them. Send them again.`);
  }

  /** The contents that can't be referred to. The others are kept from the sweep until the transaction ends. */
  async gone(sql: SqlRunner, hashes: readonly string[]): Promise<readonly string[]> {
    const live = await this.#table.live(sql, hashes);
    const gone = hashes.filter((hash) => !live.has(hash));
    for (const hash of gone) this.#forget(hash);
    return gone;
  }

  /** Whether the references of a manifest that is known to exist were recorded by this process. */
  isRecorded(manifest: string): boolean {
    return this.#recorded.has(manifest) && (this.#known.get(manifest) ?? 0) > monotonicMs();
  }

  recorded(manifest: string): void {
    this.#recorded.add(manifest);
  }

  async remove(hashes: readonly string[]): Promise<void> {
    for (const hash of hashes) {
      this.#forget(hash);
      this.#small.delete(hash);
    }
    await this.store.remove(hashes.map(blobName));
  }

  /** The name of a content in the store. */
  nameOf(hash: string): string {
    return blobName(hash);
  }

  open(hash: string): Promise<Readable> {
    return this.store.open(blobName(hash));
  }

  /** Returns the bytes of a small content, or a stream of a large one. */
  async content(hash: string, size: number): Promise<Readable | Uint8Array> {
    return size <= smallBytes ? this.read(hash) : this.open(hash);
  }

  async read(hash: string): Promise<Buffer> {
    const small = this.#small.get(hash);
    if (small) return small;
    const bytes = await buffer(await this.store.open(blobName(hash)));
    this.#remember(hash, bytes);
    return bytes;
  }

  #forget(hash: string): void {
    this.#known.delete(hash);
    this.#recorded.delete(hash);
  }

  /** Caches small contents: most tasks are small and run repeatedly, and a read from the store is most of the cost of a start. */
  #remember(hash: string, bytes: Buffer): void {
    if (bytes.length > smallBytes) return;
    if (this.#small.size >= smallCount) this.#small.clear();
    this.#small.set(hash, bytes);
  }
}

/** The sweep has removed a content between its upload and the reference to it. */
class BlobGoneError extends UploadCutError {}

function blobName(hash: string): string {
  return `blobs/${hash.slice(0, 2)}/${hash}`;
}
