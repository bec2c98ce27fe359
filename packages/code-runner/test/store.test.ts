import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { openDatabase } from '@holdfast/core';
import { describe, expect, it } from 'vitest';
import { databaseFiles, type FileStore } from '../src/index.ts';
import { s3Files } from '../src/s3/index.ts';
import { bucket, s3Client } from './s3.ts';
import { onEveryDatabase } from './suite.ts';

/** What holds of every store. */
function contract(make: () => Promise<FileStore>): void {
  it.each([0, 1, 1_048_576, 1_048_577, 20_000_000])(
    'keeps %i bytes, given whole or as a stream, and reads them from anywhere',
    async (size) => {
      const store = await make();
      const bytes = randomBytes(size);
      await store.put('a/whole', bytes, size);
      await store.put('a/stream', Readable.from(inPieces(bytes, 100_003), { objectMode: false }), size);
      for (const name of ['a/whole', 'a/stream']) {
        expect(await store.size(name)).toBe(size);
        for (const start of [0, 1, size >> 1, size - 1, size].filter((at) => at >= 0 && at <= size))
          expect((await buffer(await store.open(name, start))).equals(bytes.subarray(start)), `${name} from ${start}`).toBe(true);
      }
      await store.remove(['a/whole', 'a/stream', 'never there']);
      expect(await store.size('a/whole')).toBeUndefined();
      await expect(store.open('a/whole')).rejects.toMatchObject({ code: 'not-found' });
    },
  );

  it('replaces an object as a whole, and refuses content that is cut', async () => {
    const store = await make();
    await store.put('r', Buffer.alloc(3_000_000, 1), 3_000_000);
    await store.put('r', Buffer.from('short'), 5);
    expect((await buffer(await store.open('r'))).toString()).toBe('short');
    await expect(store.put('cut', Readable.from([Buffer.from('half')]), 8)).rejects.toMatchObject({ code: 'upload-cut' });
    const dying = Readable.from(
      (async function* () {
        yield Buffer.alloc(9_000_000);
        throw new Error('socket hang up');
      })(),
    );
    await expect(store.put('dying', dying, 30_000_000)).rejects.toThrow();
    await Promise.all(Array.from({ length: 5 }, () => store.put('same', Buffer.alloc(2_000_000, 7), 2_000_000)));
    expect(await store.size('same')).toBe(2_000_000);
  });
}

function* inPieces(bytes: Buffer, size: number): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

onEveryDatabase('a store in the database', (suite) => {
  contract(async () => databaseFiles()(openDatabase({ knex: suite.db.knex })));
});

describe.runIf(process.env.HOLDFAST_S3_URL)('a store in S3', () => {
  contract(async () => s3Files({ client: s3Client(), bucket: await bucket(), prefix: 'runner/' })(undefined as never));

  it('hands out addresses that need no key', async () => {
    const store = s3Files({ client: s3Client(), bucket: await bucket() })(undefined as never);
    await store.put('public file', Buffer.from('content'), 7);
    const url = await store.url?.('public file', 60_000);
    expect(await (await fetch(url ?? '')).text()).toBe('content');
    expect((await fetch((url ?? '').replace(/Signature=../, 'Signature=00'))).status).toBe(403);
  });

  it('says what is wrong: no such bucket, keys that are refused, nobody there', async () => {
    const client = s3Client();
    await expect(s3Files({ client, bucket: 'no-such-bucket' })(undefined as never).probe()).rejects.toThrow(
      /There is no bucket no-such-bucket. Create it/,
    );
    await expect(s3Files({ client, bucket: 'no-such-bucket' })(undefined as never).put('a', Buffer.from('x'), 1)).rejects.toThrow(
      /There is no bucket/,
    );
    const stranger = new S3Client({
      endpoint: (await client.config.endpoint?.())?.hostname ? new URL(process.env.HOLDFAST_S3_URL ?? '').origin : '',
      region: 'us-east-1',
      forcePathStyle: true,
      credentials: { accessKeyId: 'holdfast', secretAccessKey: 'wrong' },
    });
    await expect(s3Files({ client: stranger, bucket: await bucket() })(undefined as never).open('x')).rejects.toMatchObject({
      code: 'file-store',
      retryable: false,
      message: expect.stringMatching(/refused access.*credentials/),
    });
    const nobody = new S3Client({
      endpoint: 'http://127.0.0.1:9',
      region: 'x',
      credentials: { accessKeyId: 'a', secretAccessKey: 'b' },
      maxAttempts: 1,
    });
    await expect(s3Files({ client: nobody, bucket: 'b' })(undefined as never).probe()).rejects.toMatchObject({
      code: 'file-store',
      retryable: true,
    });
    await client.send(new CreateBucketCommand({ Bucket: await bucket() })).catch(() => undefined);
  });
});
