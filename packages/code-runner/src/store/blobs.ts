import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import type { FileStore } from './file-store.ts';
import type { Spooled } from './spool.ts';

const smallBytes = 65_536;
const smallCount = 256;

/** Contents by their digest. A content that exists is not written again, so repeated runs of the same files cost nothing. */
export class Blobs {
  readonly store: FileStore;
  /** Digests that are known to exist; cleared when there are too many. */
  readonly #known = new Set<string>();
  readonly #small = new Map<string, Buffer>();

  constructor(store: FileStore) {
    this.store = store;
  }

  async keep(content: Spooled): Promise<void> {
    if (this.#known.has(content.hash)) return;
    const name = blobName(content.hash);
    const bytes = content.content();
    if (bytes instanceof Uint8Array) this.#remember(content.hash, Buffer.from(bytes));
    if ((await this.store.size(name)) !== content.size) await this.store.put(name, bytes, content.size);
    else if (!(bytes instanceof Uint8Array)) bytes.destroy();
    if (this.#known.size > 10_000) this.#known.clear();
    this.#known.add(content.hash);
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

  /** Caches small contents: most tasks are small and run repeatedly, and a read from the store is most of the cost of a start. */
  #remember(hash: string, bytes: Buffer): void {
    if (bytes.length > smallBytes) return;
    if (this.#small.size >= smallCount) this.#small.clear();
    this.#small.set(hash, bytes);
  }
}

function blobName(hash: string): string {
  return `blobs/${hash.slice(0, 2)}/${hash}`;
}
