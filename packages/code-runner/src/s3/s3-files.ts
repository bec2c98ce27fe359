import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import {
  AbortMultipartUploadCommand,
  type CompletedPart,
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateMultipartUploadCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type S3Client,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import { getSignedUrl } from '@aws-sdk/s3-request-presigner';
import { FileStoreError, NotFoundError, UploadCutError } from '../errors.ts';
import type { FileStoreOf } from '../store/database-files.ts';
import type { FileStore } from '../store/file-store.ts';
import { inParts } from '../store/in-parts.ts';
import { sized } from '../store/sized.ts';

/** Options of {@link s3Files}. */
export interface S3FilesOptions {
  /** A client with credentials, region and address. You close it; this package does not. */
  readonly client: S3Client;
  /** Name of an existing bucket. */
  readonly bucket: string;
  /** Prefix of the names of all objects, for example `runner/`. Default: none. */
  readonly prefix?: string;
  /** Contents with more bytes are sent in parts of this size. S3 accepts 5 MiB to 5 GiB. Default 8 MiB. */
  readonly partBytes?: number;
}

/** Stands for the bucket where an object's name is expected. */
const bucketItself = '';

/** Stores contents in a bucket of S3, or of a server that speaks its protocol. */
export function s3Files(options: S3FilesOptions): FileStoreOf {
  return () => new S3Files(options);
}

class S3Files implements FileStore {
  readonly name: string;
  readonly #client: S3Client;
  readonly #bucket: string;
  readonly #prefix: string;
  readonly #partBytes: number;

  constructor({ client, bucket, prefix = '', partBytes = 8 * 2 ** 20 }: S3FilesOptions) {
    this.name = `the bucket ${bucket}`;
    this.#client = client;
    this.#bucket = bucket;
    this.#prefix = prefix;
    this.#partBytes = partBytes;
  }

  async put(name: string, content: Uint8Array | Readable, size: number): Promise<void> {
    if (content instanceof Uint8Array || size <= this.#partBytes) {
      const Body = content instanceof Uint8Array ? content : await buffer(Readable.from(sized(content, size, name)));
      if (Body.length !== size)
        throw new UploadCutError(`The content of ${name} has ${Body.length} bytes instead of ${size}. Send it again.`);
      await this.#ask(name, () => this.#client.send(new PutObjectCommand({ ...this.#at(name), Body, ContentLength: size })));
      return;
    }
    await this.#putInParts(name, content, size);
  }

  async open(name: string, start = 0): Promise<Readable> {
    const size = start > 0 ? await this.size(name) : undefined;
    // S3 refuses an empty range.
    if (size !== undefined && start >= size) return Readable.from([]);
    const found = await this.#ask(name, () =>
      this.#client.send(new GetObjectCommand({ ...this.#at(name), ...(start > 0 ? { Range: `bytes=${start}-` } : {}) })),
    );
    return found.Body as Readable;
  }

  async size(name: string): Promise<number | undefined> {
    try {
      return (await this.#ask(name, () => this.#client.send(new HeadObjectCommand(this.#at(name))))).ContentLength;
    } catch (error) {
      if (NotFoundError.is(error, 'not-found')) return undefined;
      throw error;
    }
  }

  async remove(names: readonly string[]): Promise<void> {
    for (let i = 0; i < names.length; i += 1_000) {
      const Objects = names.slice(i, i + 1_000).map((name) => ({ Key: `${this.#prefix}${name}` }));
      await this.#ask('objects', () =>
        this.#client.send(new DeleteObjectsCommand({ Bucket: this.#bucket, Delete: { Objects, Quiet: true } })),
      );
    }
  }

  /** S3 copies objects of up to 5 GiB in one request; a larger one is refused. */
  async copy(from: string, to: string): Promise<void> {
    const CopySource = `${this.#bucket}/${this.#prefix}${from}`.split('/').map(encodeURIComponent).join('/');
    await this.#ask(from, () => this.#client.send(new CopyObjectCommand({ ...this.#at(to), CopySource })));
  }

  async list(prefix: string, limit: number): Promise<readonly string[]> {
    const { Contents = [] } = await this.#ask(bucketItself, () =>
      this.#client.send(
        new ListObjectsV2Command({ Bucket: this.#bucket, Prefix: `${this.#prefix}${prefix}`, MaxKeys: Math.min(limit, 1_000) }),
      ),
    );
    return Contents.flatMap(({ Key }) => (Key === undefined ? [] : [Key.slice(this.#prefix.length)]));
  }

  url(name: string, expiresInMs: number): Promise<string> {
    return getSignedUrl(this.#client, new GetObjectCommand(this.#at(name)), { expiresIn: Math.ceil(expiresInMs / 1_000) });
  }

  async probe(): Promise<void> {
    await this.#ask(bucketItself, () => this.#client.send(new HeadBucketCommand({ Bucket: this.#bucket })));
  }

  async #putInParts(name: string, content: Readable, size: number): Promise<void> {
    const at = this.#at(name);
    const { UploadId } = await this.#ask(name, () => this.#client.send(new CreateMultipartUploadCommand(at)));
    const Parts: CompletedPart[] = [];
    try {
      for await (const Body of inParts(sized(content, size, name), this.#partBytes)) {
        const PartNumber = Parts.length + 1;
        const { ETag } = await this.#ask(name, () => this.#client.send(new UploadPartCommand({ ...at, UploadId, PartNumber, Body })));
        Parts.push({ PartNumber, ...(ETag === undefined ? {} : { ETag }) });
      }
      await this.#ask(name, () => this.#client.send(new CompleteMultipartUploadCommand({ ...at, UploadId, MultipartUpload: { Parts } })));
    } catch (error) {
      // Parts of an incomplete upload are invisible, but cost money.
      await this.#client.send(new AbortMultipartUploadCommand({ ...at, UploadId })).catch(() => undefined);
      throw error;
    }
  }

  #at(name: string): { readonly Bucket: string; readonly Key: string } {
    return { Bucket: this.#bucket, Key: `${this.#prefix}${name}` };
  }

  async #ask<T>(what: string, send: () => Promise<T>): Promise<T> {
    try {
      return await send();
    } catch (error) {
      throw this.#refusal(what, error);
    }
  }

  /** Turns an error of S3 into one that says what to do. */
  #refusal(what: string, error: unknown): Error {
    const { name, message, $metadata } = error as { name?: string; message?: string; $metadata?: { httpStatusCode?: number } };
    const status = $metadata?.httpStatusCode;
    if (name === 'NoSuchKey' || (name === 'NotFound' && what !== bucketItself))
      return new NotFoundError(`There is no object ${what} in ${this.name}.`);
    if (name === 'NoSuchBucket' || name === 'NotFound')
      return new FileStoreError(`There is no bucket ${this.#bucket}. Create it, or name another.`, { cause: error });
    if (status === 401 || status === 403)
      return new FileStoreError(
        `S3 refused access to ${this.name} (${name}). Check the client's credentials, and that they may read, write and delete objects there.`,
        { cause: error },
      );
    if (UploadCutError.is(error)) return error;
    return new FileStoreError(
      `A request to S3 for ${what === bucketItself ? '' : `${what} in `}${this.name} failed: ${message || name || String(error)}.`,
      {
        retryable: true,
        cause: error,
      },
    );
  }
}
