import { Resolver } from 'node:dns/promises';

export interface ResolvedAddress {
  readonly address: string;
  readonly family: 4 | 6;
}

/** Returns all addresses of a name. */
export type Resolve = (name: string) => Promise<readonly ResolvedAddress[]>;

export const dnsTimeoutMs = 1_500;

/**
 * Makes a resolver that queries DNS servers directly. `getaddrinfo` can't be cancelled and runs on libuv's four threads, which a few slow
 * names block for the whole process. It also reads `/etc/hosts`, whose names are private.
 *
 * @param servers as `host:port`; default: the servers of this machine
 */
export function dnsResolver(servers?: readonly string[]): Resolve {
  return async (name) => {
    const resolver = new Resolver({ timeout: dnsTimeoutMs, tries: 1 });
    if (servers) resolver.setServers(servers);
    // The resolver's own time-out holds for each server that it queries.
    const timer = setTimeout(() => resolver.cancel(), dnsTimeoutMs);
    try {
      const [v4, v6] = await Promise.allSettled([resolver.resolve4(name), resolver.resolve6(name)]);
      const addresses: ResolvedAddress[] = [];
      if (v4.status === 'fulfilled') for (const address of v4.value) addresses.push({ address, family: 4 });
      if (v6.status === 'fulfilled') for (const address of v6.value) addresses.push({ address, family: 6 });
      if (addresses.length > 0) return addresses;
      throw v4.status === 'rejected' ? v4.reason : new Error('no address');
    } catch (cause) {
      const code = (cause as { code?: string }).code ?? 'ENODATA';
      throw Object.assign(new Error(`The name ${name} has no address (${code}).`, { cause }), {
        code: code === 'ECANCELLED' ? 'ETIMEOUT' : code,
      });
    } finally {
      clearTimeout(timer);
    }
  };
}
