import { getCACertificates } from 'node:tls';

/** Node's own certificate authorities and these, as `tls.createSecureContext` takes them: its `ca` replaces Node's. */
export function trustedRoots(added: string | Buffer | readonly (string | Buffer)[]): (string | Buffer)[] {
  return [...getCACertificates('default'), ...[added].flat()];
}
