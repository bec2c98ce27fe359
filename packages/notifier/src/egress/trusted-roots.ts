import tls from 'node:tls';

/** Node's own certificate authorities and these, as `tls.createSecureContext` takes them: its `ca` replaces Node's. */
export function trustedRoots(added: string | Buffer | readonly (string | Buffer)[]): (string | Buffer)[] {
  // getCACertificates also has those of NODE_EXTRA_CA_CERTS; Node 22.15 brought it.
  const usual = tls.getCACertificates?.('default') ?? tls.rootCertificates;
  return [...usual, ...[added].flat()];
}
