import type { Readable } from 'node:stream';

/** Stores contents as named objects, which do not change after they were written. */
export interface FileStore {
  /** Name for messages, such as `the database` or `the bucket models`. */
  readonly name: string;
  /**
   * Writes an object; an object of the same name is replaced as a whole. `size` is the exact number of bytes.
   * @throws FileStoreError
   */
  put(name: string, content: Uint8Array | Readable, size: number): Promise<void>;
  /**
   * Opens an object's bytes from offset `start` (default 0).
   * @throws NotFoundError, FileStoreError
   */
  open(name: string, start?: number): Promise<Readable>;
  /** Returns the size in bytes, or `undefined` if the object does not exist. */
  size(name: string): Promise<number | undefined>;
  /** Removes objects, which need not exist. */
  remove(names: readonly string[]): Promise<void>;
  /**
   * Copies an object within the store, replacing one of the name `to`; the bytes do not pass through this process. Missing if nobody reads the
   * store by names of objects: then the files of runs are not copied to their folders.
   * @throws NotFoundError, FileStoreError
   */
  copy?(from: string, to: string): Promise<void>;
  /** Names of objects that begin with `prefix`, at most `limit` of them, in any order. A prefix ends with `/`. */
  list(prefix: string, limit: number): Promise<readonly string[]>;
  /** Returns an address from which anybody can read the object until it expires. Missing if the store has no addresses. */
  url?(name: string, expiresInMs: number): Promise<string>;
  /** Checks that objects can be stored. @throws FileStoreError that says how to fix it */
  probe(): Promise<void>;
}
