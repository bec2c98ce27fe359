import { createSocket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import { networkInterfaces } from 'node:os';
import { startTimer } from '@holdfast/core';

/** Resolving an admin's name may take this long, in ms. */
const lookupMs = 2_000;

/** True for a host that means every address of this machine. */
export function isWildcard(host: string): boolean {
  return ['', '0.0.0.0', '::', '[::]'].includes(host);
}

/** True for a host that only this machine reaches. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || /^127\./.test(host) || host === '::1' || host === '[::1]' || /^(::ffff:)?127\./i.test(host);
}

/** The way from this machine to an admin. */
interface Way {
  /** The address from which this machine calls the admin, and at which the admin can call back. */
  readonly from: string;
  /** The admin runs on this machine. */
  readonly local: boolean;
}

/** Finds the way to an admin; `undefined` if its name or the network is unknown. Nothing is sent: the system only looks up its routes. */
async function wayTo(admin: string): Promise<Way | undefined> {
  const { hostname, port } = new URL(admin);
  const host = hostname.replace(/^\[|\]$/g, '');
  const socket = createSocket(isIPv6(host) ? 'udp6' : 'udp4');
  let timer: ReturnType<typeof startTimer> | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      timer = startTimer(lookupMs, () => reject(new Error('the lookup took too long')));
      socket.once('error', reject);
      socket.connect(Number(port) || 80, host, resolve);
    });
    const from = socket.address().address;
    const to = socket.remoteAddress().address;
    return { from, local: isLoopback(to) || from === to };
  } catch {
    return undefined;
  } finally {
    timer?.clear();
    socket.removeAllListeners('error');
    socket.on('error', () => undefined);
    socket.close();
  }
}

/** The host at which admins call this executor, and the admins that can't reach it. */
export interface OwnHost {
  readonly host: string;
  readonly unreached: readonly string[];
}

/**
 * Finds the host to register: the one to listen on, or, where that means every address, the one from which this machine calls the first admin
 * on another machine. An admin on another machine can't call a loopback address.
 */
export async function ownHost(listenHost: string, admins: readonly string[]): Promise<OwnHost> {
  const ways = await Promise.all(admins.map(wayTo));
  const remote = admins.filter((_, i) => !ways[i]?.local);
  const away = ways.find((way) => way && !way.local);
  const host = !isWildcard(listenHost) ? listenHost : remote.length === 0 ? '127.0.0.1' : (away?.from ?? firstExternal() ?? '127.0.0.1');
  return { host, unreached: isLoopback(host) ? remote : [] };
}

/** The first IPv4 address of this machine that others reach. */
function firstExternal(): string | undefined {
  return Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .find(({ family, internal }) => family === 'IPv4' && !internal)?.address;
}

/** The address of a host and port, as an admin calls it. */
export function httpAddress(host: string, port: number): string {
  return `http://${isIPv6(host) ? `[${host}]` : host}:${port}/`;
}
