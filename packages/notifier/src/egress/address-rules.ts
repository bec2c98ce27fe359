import { BlockList, isIPv4, isIPv6 } from 'node:net';
import { networkInterfaces } from 'node:os';
import { InvalidArgumentError, monotonicMs, shownValue } from '@holdfast/core';

/** IPv4 ranges that a callback must not reach: IANA's special-purpose registry, and the metadata services of clouds. */
const forbiddenV4: readonly (readonly [cidr: string, what: string])[] = [
  ['0.0.0.0/8', 'this network, RFC 791'],
  ['10.0.0.0/8', 'private use, RFC 1918'],
  ['100.64.0.0/10', 'shared address space, RFC 6598'],
  ['127.0.0.0/8', 'loopback, RFC 1122'],
  ['169.254.0.0/16', 'link local and cloud metadata, RFC 3927'],
  ['172.16.0.0/12', 'private use, RFC 1918'],
  ['192.0.0.0/24', 'IETF protocol assignments, RFC 6890'],
  ['192.0.2.0/24', 'documentation, RFC 5737'],
  ['192.31.196.0/24', 'AS112, RFC 7535'],
  ['192.52.193.0/24', 'AMT, RFC 7450'],
  ['192.88.99.0/24', '6to4 relay anycast, RFC 7526'],
  ['192.168.0.0/16', 'private use, RFC 1918'],
  ['192.175.48.0/24', 'AS112, RFC 7534'],
  ['198.18.0.0/15', 'benchmarking, RFC 2544'],
  ['198.51.100.0/24', 'documentation, RFC 5737'],
  ['203.0.113.0/24', 'documentation, RFC 5737'],
  ['224.0.0.0/4', 'multicast, RFC 5771'],
  ['240.0.0.0/4', 'reserved and broadcast, RFC 1112'],
  ['168.63.129.16/32', "Azure's host"],
];

/**
 * IPv6 ranges within 2000::/3 that a callback must not reach. Anything outside of 2000::/3 is refused, such as `::7f00:1`, except for
 * `64:ff9b::/96`, whose addresses are judged by the IPv4 address in them.
 */
const forbiddenV6: readonly (readonly [cidr: string, what: string])[] = [
  ['2001::/23', 'IETF protocol assignments with Teredo, RFC 2928'],
  ['2001:db8::/32', 'documentation, RFC 3849'],
  ['2002::/16', '6to4, RFC 3056'],
  ['2620:4f:8000::/48', 'AS112, RFC 7534'],
  ['3fff::/20', 'documentation, RFC 9637'],
];

interface Rule {
  readonly cidr: string;
  readonly what: string;
  readonly list: BlockList;
}

const rulesV4 = forbiddenV4.map(([cidr, what]): Rule => ({ cidr, what, list: cidrList(cidr) }));
const rulesV6 = forbiddenV6.map(([cidr, what]): Rule => ({ cidr, what, list: cidrList(cidr) }));
const globalV6 = cidrList('2000::/3');
/** The prefix under which a network without IPv4 reaches IPv4 addresses: DNS64, RFC 6052. */
const nat64 = cidrList('64:ff9b::/96');

/** Decides which addresses may be connected to. */
export class AddressRules {
  readonly #allowed: readonly { readonly family: 'ipv4' | 'ipv6'; readonly list: BlockList }[];
  #own: ReadonlySet<string> = new Set();
  #ownAt = Number.NEGATIVE_INFINITY;

  /** @param allowCidrs ranges that are allowed nevertheless, for example `['10.20.0.0/16', 'fd00:1::/64']` */
  constructor(allowCidrs: readonly string[]) {
    this.#allowed = allowCidrs.map((cidr) => ({ family: cidrFamily(cidr), list: cidrList(cidr) }));
  }

  /** Returns the reason why an address may not be connected to, or `undefined`. Accepts the notations that `net.isIP` accepts. */
  problem(address: string): string | undefined {
    // Each family has lists of its own: a list of both families also matches IPv4-mapped addresses, which nobody added.
    if (isIPv4(address)) {
      if (this.#isAllowed(address, 'ipv4')) return undefined;
      for (const { cidr, what, list } of rulesV4) if (list.check(address, 'ipv4')) return `${address} is in ${cidr} (${what})`;
      return this.#isOwn(address) ? `${address} is an address of this host` : undefined;
    }
    if (!isIPv6(address)) return `${address} is not a valid IP address`;
    if (address.includes('%')) return `${address} names a network interface`;
    // Before the allowed ranges: this one, opened as a whole, would open `64:ff9b::a9fe:a9fe`.
    if (nat64.check(address, 'ipv6')) {
      const problem = this.problem(embeddedV4(address));
      return problem && `${address} stands for an IPv4 address: ${problem}`;
    }
    if (this.#isAllowed(address, 'ipv6')) return undefined;
    if (!globalV6.check(address, 'ipv6')) return `${address} is outside of 2000::/3 (not global unicast, RFC 4291)`;
    for (const { cidr, what, list } of rulesV6) if (list.check(address, 'ipv6')) return `${address} is in ${cidr} (${what})`;
    if (isIsatap(address)) return `${address} contains an IPv4 address (ISATAP, RFC 5214)`;
    return this.#isOwn(address) ? `${address} is an address of this host` : undefined;
  }

  #isAllowed(address: string, family: 'ipv4' | 'ipv6'): boolean {
    return this.#allowed.some((allowed) => allowed.family === family && allowed.list.check(address, family));
  }

  #isOwn(address: string): boolean {
    const now = monotonicMs();
    if (now - this.#ownAt > 10_000) {
      this.#ownAt = now;
      this.#own = new Set(Object.values(networkInterfaces()).flatMap((list) => (list ?? []).map((one) => one.address.replace(/%.*/, ''))));
    }
    return this.#own.has(address);
  }
}

/** Returns whether the interface identifier is `0000:5efe` or `0200:5efe`, followed by an IPv4 address. */
function isIsatap(address: string): boolean {
  const groups = expand(address);
  return groups[5] === 0x5efe && (groups[4] === 0 || groups[4] === 0x0200);
}

/** Returns the IPv4 address in the last 32 bits. */
function embeddedV4(address: string): string {
  return expand(address)
    .slice(6)
    .flatMap((group) => [group >> 8, group & 0xff])
    .join('.');
}

/** Returns the eight groups of an IPv6 address. */
function expand(address: string): readonly number[] {
  // The URL parser normalises every spelling, and turns a dotted tail into two groups.
  const plain = new URL(`http://[${address}]/`).hostname.slice(1, -1);
  const [head = '', tail] = plain.split('::');
  const parse = (part: string): number[] => (part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16)));
  if (tail === undefined) return parse(head);
  const [before, after] = [parse(head), parse(tail)];
  return [...before, ...new Array<number>(8 - before.length - after.length).fill(0), ...after];
}

function cidrFamily(cidr: string): 'ipv4' | 'ipv6' {
  const [address = ''] = cidr.split('/');
  if (isIPv4(address)) return 'ipv4';
  if (isIPv6(address)) return 'ipv6';
  throw new InvalidArgumentError(`${shownValue(cidr)} is not a valid range of addresses; write it as '10.20.0.0/16' or 'fd00:1::/64'.`);
}

function cidrList(cidr: string): BlockList {
  const family = cidrFamily(cidr);
  const [address = '', bits = ''] = cidr.split('/');
  const prefix = Number(bits);
  if (!/^\d+$/.test(bits) || prefix > (family === 'ipv4' ? 32 : 128))
    throw new InvalidArgumentError(`${shownValue(cidr)} is not a valid range of addresses; write it as '10.20.0.0/16' or 'fd00:1::/64'.`);
  const list = new BlockList();
  list.addSubnet(address, prefix, family);
  return list;
}
