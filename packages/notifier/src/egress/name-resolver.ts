import { Resolver } from 'node:dns/promises';
import { idle, monotonicMs, startTimer, type Timer } from '@holdfast/core';

export interface ResolvedAddress {
  readonly address: string;
  readonly family: 4 | 6;
}

/** Returns the addresses of a name. */
export type Resolve = (name: string) => Promise<readonly ResolvedAddress[]>;

/** Time limit for a name, over all servers. */
export const dnsTimeoutMs = 1_500;
/** Time after which the next server is asked as well. */
const nextServerMs = 350;
/** Time for which a server is asked last, after another one had to answer for it. */
const lastForMs = 60_000;
/** Time that the IPv6 addresses may come after the IPv4 addresses (RFC 8305 has 50 ms, for clients that a person waits for). */
const ipv6GraceMs = 200;
/** The same for IPv4, which is there more often where only one of them works. */
const ipv4GraceMs = 800;

/**
 * Makes a resolver that queries DNS servers directly. `getaddrinfo` can't be cancelled and runs on libuv's four threads, which a few slow
 * names block for the whole process. It also reads `/etc/hosts`, whose names are private.
 *
 * A server that does not answer within 350 ms, or fails, has the next one asked beside it, and is asked last for a minute. c-ares itself
 * waits for the first server until its time is up, for every name again.
 *
 * @param servers as `host:port`; default: the servers of this machine
 */
export function dnsResolver(servers?: readonly string[]): Resolve {
  const lastUntil = new Map<string, number>();
  return async (name) => {
    const now = monotonicMs();
    const [good, bad]: [string[], string[]] = [[], []];
    for (const server of servers ?? new Resolver().getServers()) ((lastUntil.get(server) ?? 0) > now ? bad : good).push(server);
    try {
      const { addresses, passed } = await new Look(name, [...good, ...bad]).answer;
      for (const server of passed) lastUntil.set(server, monotonicMs() + lastForMs);
      return addresses;
    } catch (cause) {
      const code = (cause as { code?: string }).code ?? 'ENODATA';
      throw Object.assign(new Error(`The name ${name} has no address (${code}).`, { cause }), { code });
    }
  };
}

interface Answer {
  readonly addresses: readonly ResolvedAddress[];
  /** The servers that were asked before the one that answered. */
  readonly passed: readonly string[];
}

/** One look for the addresses of a name, at one server after the other. The first answer counts, also that there is no such name. */
class Look {
  readonly answer: Promise<Answer>;
  readonly #name: string;
  readonly #servers: readonly string[];
  readonly #asked: Resolver[] = [];
  readonly #limit: Timer;
  #next: Timer | undefined;
  #failed = 0;
  #settle: { resolve(answer: Answer): void; reject(error: unknown): void } | undefined;

  constructor(name: string, servers: readonly string[]) {
    this.#name = name;
    this.#servers = servers;
    this.answer = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    this.#limit = startTimer(dnsTimeoutMs, () => this.#end(({ reject }) => reject(coded('ETIMEOUT'))));
    if (servers.length === 0) this.#end(({ reject }) => reject(coded('ENOSERVER')));
    else this.#askNext();
  }

  #askNext(): void {
    this.#next?.clear();
    const at = this.#asked.length;
    const server = this.#servers[at];
    if (server === undefined || !this.#settle) return;
    const resolver = new Resolver({ timeout: dnsTimeoutMs, tries: 1 });
    resolver.setServers([server]);
    this.#asked.push(resolver);
    this.#next = startTimer(nextServerMs, () => this.#askNext());
    addressesFrom(resolver, this.#name).then(
      (addresses) => this.#end(({ resolve }) => resolve({ addresses, passed: this.#servers.slice(0, at) })),
      (error) => this.#fail(error),
    );
  }

  #fail(error: unknown): void {
    this.#failed += 1;
    if (isAnswer(error) || this.#failed === this.#servers.length) this.#end(({ reject }) => reject(error));
    else if (this.#failed === this.#asked.length) this.#askNext();
  }

  #end(how: (settle: { resolve(answer: Answer): void; reject(error: unknown): void }) => void): void {
    const settle = this.#settle;
    if (!settle) return;
    this.#settle = undefined;
    this.#limit.clear();
    this.#next?.clear();
    for (const resolver of this.#asked) resolver.cancel();
    how(settle);
  }
}

type Part = { readonly addresses: readonly ResolvedAddress[]; readonly error?: unknown };

/** Asks for A and AAAA side by side. The slower one is waited for a moment only, once the other has addresses. */
async function addressesFrom(resolver: Resolver, name: string): Promise<readonly ResolvedAddress[]> {
  const v4 = part(resolver.resolve4(name), 4);
  const v6 = part(resolver.resolve6(name), 6);
  const found = await Promise.all([inTime(v4, v6, ipv4GraceMs), inTime(v6, v4, ipv6GraceMs)]);
  const addresses = found.flatMap((one) => one.addresses);
  if (addresses.length > 0) return addresses;
  const [{ error }, other] = found;
  throw error !== undefined && !isAnswer(error) ? error : (other.error ?? error);
}

/** `one`; or nothing, if it comes later than `graceMs` after `other` with its addresses. */
function inTime(one: Promise<Part>, other: Promise<Part>, graceMs: number): Promise<Part> {
  const late = other.then(async ({ addresses }) => {
    if (addresses.length === 0) return one;
    await idle(graceMs);
    return { addresses: [] };
  });
  return Promise.race([one, late]);
}

function part(asked: Promise<readonly string[]>, family: 4 | 6): Promise<Part> {
  return asked.then(
    (found) => ({ addresses: found.map((address) => ({ address, family })) }),
    (error) => ({ addresses: [], error }),
  );
}

/** Returns whether an error is what the server knows of the name: that it does not exist, or has no such records. */
function isAnswer(error: unknown): boolean {
  const { code } = error as { code?: string };
  return code === 'ENOTFOUND' || code === 'ENODATA';
}

function coded(code: string): Error {
  return Object.assign(new Error(code), { code });
}
