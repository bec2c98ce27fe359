import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';

/** A client of the S3 server that is up. */
export function s3Client(): S3Client {
  const url = new URL(process.env.HOLDFAST_S3_URL ?? '');
  return new S3Client({
    endpoint: url.origin,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId: url.username, secretAccessKey: url.password },
  });
}

const name = `test-${process.pid}-${Math.random().toString(36).slice(2, 10)}`;
let made: Promise<string> | undefined;

/** A bucket of this process's own. */
export function bucket(): Promise<string> {
  made ??= s3Client()
    .send(new CreateBucketCommand({ Bucket: name }))
    .then(() => name);
  return made;
}
