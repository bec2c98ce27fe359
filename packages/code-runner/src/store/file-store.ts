import type { Readable } from 'node:stream';

/** Where contents are kept: objects with names, which never change once written. */
export interface FileStore {
  /** For messages: `the database`, `the bucket models of S3`. */
  readonly name: string;
  /**
   * Keeps an object; one of the same name is replaced as a whole. `size` is exact.
   * @throws FileStoreError
   */
  put(name: string, content: Uint8Array | Readable, size: number): Promise<void>;
  /**
   * An object's bytes, from `start` on. It fails with NotFoundError if there is no such object.
   * @throws NotFoundError, FileStoreError
   */
  open(name: string, start?: number): Promise<Readable>;
  /** Size in bytes, or `undefined` if there is no such object. */
  size(name: string): Promise<number | undefined>;
  /** Removes objects; those that are not there are no error. */
  remove(names: readonly string[]): Promise<void>;
  /** An address under which anybody can read the object for a while, where there is such a thing. */
  url?(name: string, expiresInMs: number): Promise<string>;
  /** @throws FileStoreError that says what to do, if nothing can be kept */
  probe(): Promise<void>;
}
