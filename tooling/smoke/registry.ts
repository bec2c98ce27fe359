import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { root } from '../paths.ts';
import type { Packed } from './pack.ts';

/** A registry of the packed packages only, so that `npm install @holdfast/…` works as if they were published. */
export interface Registry {
  /** The contents of `.npmrc`. */
  readonly npmrc: string;
  close(): void;
}

export async function startRegistry(packed: readonly Packed[]): Promise<Registry> {
  const server: Server = createServer((request, response) => {
    const path = decodeURIComponent(request.url ?? '');
    const one = packed.find(({ name }) => path === `/${name}` || path === `/${name}.tgz`);
    if (!one) {
      response.writeHead(404).end('{}');
      return;
    }
    const bytes = readFileSync(one.tarball);
    if (path.endsWith('.tgz')) {
      response.end(bytes);
      return;
    }
    const manifest = JSON.parse(readFileSync(join(root, 'packages', one.folder, 'package.json'), 'utf8')) as object;
    const dist = {
      tarball: `http://127.0.0.1:${(server.address() as AddressInfo).port}/${one.name}.tgz`,
      integrity: `sha512-${createHash('sha512').update(bytes).digest('base64')}`,
    };
    response.setHeader('content-type', 'application/json');
    response.end(
      JSON.stringify({ name: one.name, 'dist-tags': { latest: one.version }, versions: { [one.version]: { ...manifest, dist } } }),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    npmrc: `@holdfast:registry=http://127.0.0.1:${(server.address() as AddressInfo).port}/\naudit=false\nfund=false\n`,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}
