import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { CreateBucketCommand, GetObjectCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { servicesRoot } from '../paths.ts';
import { buildGoProgram } from './go-program.ts';
import { serviceFolder, startDetached } from './process-record.ts';
import type { Service } from './service.ts';

/** versitygw: a server that speaks S3's protocol over a folder. */
const version = 'v1.8.0';
const binary = join(servicesRoot, 'bin', `versitygw-${version}`);
const [key, secret] = ['holdfast', 'holdfast-secret'];

export const s3: Service = {
  name: 's3',
  variable: 'HOLDFAST_S3_URL',
  packages: [],
  binaries: [binary],
  stopSignal: 'SIGTERM',
  url: (port) => `http://${key}:${secret}@127.0.0.1:${port}`,
  missing: `have Go 1.24 or newer to build versitygw ${version}`,
  install: (log) =>
    buildGoProgram(log, { module: 'github.com/versity/versitygw/cmd/versitygw', version, binary, takes: 'about two minutes' }),
  async start(port, name) {
    const folder = join(serviceFolder(name), 'data');
    mkdirSync(folder, { recursive: true });
    const env = { PATH: process.env.PATH ?? '', ROOT_ACCESS_KEY: key, ROOT_SECRET_KEY: secret };
    startDetached(name, port, binary, ['--quiet', '--port', `127.0.0.1:${port}`, 'posix', folder], { env });
  },
  async roundTrip(url) {
    const client = s3Client(url);
    try {
      const Bucket = 'holdfast-check';
      await client.send(new CreateBucketCommand({ Bucket })).catch((error: { name: string }) => {
        if (!/^Bucket(AlreadyOwnedByYou|AlreadyExists)$/.test(error.name)) throw error;
      });
      await client.send(new PutObjectCommand({ Bucket, Key: 'check', Body: 'ok' }));
      const { Body } = await client.send(new GetObjectCommand({ Bucket, Key: 'check' }));
      if ((await Body?.transformToString()) !== 'ok') throw new Error('the object written was not read back');
    } finally {
      client.destroy();
    }
  },
};

function s3Client(address: string): S3Client {
  const url = new URL(address);
  return new S3Client({
    endpoint: url.origin,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: { accessKeyId: url.username, secretAccessKey: url.password },
    maxAttempts: 1,
  });
}
