import { isIP, type LookupFunction, type Socket } from 'node:net';
import { type Duration, durationMs, InvalidArgumentError } from '@holdfast/core';
import { buildConnector, type Dispatcher, ProxyAgent } from 'undici';
import { EgressDeniedError } from '../errors.ts';
import { AddressRules } from './address-rules.ts';
import { ConnectionPool } from './connection-pool.ts';
import { type Answer, type EgressRequest, exchange } from './exchange.ts';
import { dnsResolver, type Resolve } from './name-resolver.ts';
import { checkUrl } from './url-rules.ts';

/** What may be called, and for how long. */
export interface EgressOptions {
  /** Allows `http:` URLs. Default `false`. */
  readonly allowHttp?: boolean;
  /** Ports besides 80, 443 and 8443. */
  readonly allowPorts?: readonly number[];
  /** Address ranges that are opened by intent, for example `['10.20.0.0/16']`, the same at trigger, probe and send. */
  readonly allowCidrs?: readonly string[];
  /** How long a connection may take to be made, its DNS included. Default 3 s. */
  readonly connectTimeout?: Duration;
  /** How long a whole request may take: DNS, connection, sending, headers and body. Default 10 s. */
  readonly requestTimeout?: Duration;
  /** Certificates (PEM) that are trusted besides the usual ones. */
  readonly ca?: string | Buffer | readonly (string | Buffer)[];
  /**
   * A forward proxy, as `http://proxy.example:3128`. Never taken from the environment. Names are resolved and judged here, and then
   * once more by the proxy: it must refuse private addresses itself.
   */
  readonly proxy?: string;
  /** DNS servers as `host:port`. Default: those of the machine. */
  readonly dnsServers?: readonly string[];
}

/** Ports that are allowed by default. */
const usualPorts = [80, 443, 8_443];
/** A response head larger than this is refused. */
const maxHeaderBytes = 16_384;

/**
 * The one way out. What it connects to is judged three times: the literal in the URL (no `lookup` is called for one), every
 * address that a name resolves to (one forbidden address refuses them all), and the socket's own remote address. What is judged is
 * what is connected to: a name that resolves otherwise on a second look is not looked up twice.
 */
export class Egress {
  readonly #addresses: AddressRules;
  readonly #allowHttp: boolean;
  readonly #ports: ReadonlySet<number>;
  readonly #resolve: Resolve;
  readonly #requestMs: number;
  readonly #pool: ConnectionPool;
  readonly #proxy: Dispatcher | undefined;

  constructor(options: EgressOptions = {}) {
    for (const port of options.allowPorts ?? [])
      if (!Number.isInteger(port) || port < 1 || port > 65_535)
        throw new InvalidArgumentError(`allowPorts holds ${port}; give whole numbers from 1 to 65535.`);
    this.#addresses = new AddressRules(options.allowCidrs ?? []);
    this.#allowHttp = options.allowHttp ?? false;
    this.#ports = new Set([...usualPorts, ...(options.allowPorts ?? [])]);
    this.#resolve = dnsResolver(options.dnsServers);
    const connectMs = durationMs(options.connectTimeout ?? '3s', 'connectTimeout');
    this.#requestMs = durationMs(options.requestTimeout ?? '10s', 'requestTimeout');
    const client = {
      allowH2: false,
      pipelining: 1,
      maxHeaderSize: maxHeaderBytes,
      headersTimeout: this.#requestMs,
      bodyTimeout: this.#requestMs,
      keepAliveTimeout: 10_000,
    };
    const connect = this.#connector(connectMs, options.ca);
    this.#pool = new ConnectionPool({ connect, client });
    this.#proxy =
      options.proxy === undefined
        ? undefined
        : // Plain HTTP too goes through a tunnel: what the proxy is asked for is what was judged, a host and a port.
          new ProxyAgent({
            uri: options.proxy,
            proxyTunnel: true,
            proxyTls: { timeout: connectMs },
            ...(options.ca === undefined ? {} : { requestTls: { ca: [options.ca].flat() as (string | Buffer)[] } }),
            ...client,
          });
  }

  /** The URL, if its text may be called. @throws EgressDeniedError */
  check(url: string): URL {
    return checkUrl(url, { allowHttp: this.#allowHttp, ports: this.#ports, addresses: this.#addresses });
  }

  /** Sends one POST and reads what comes back, within all bounds. Never throws. */
  async post(request: EgressRequest): Promise<Answer> {
    // What was allowed when it was accepted may be forbidden by now.
    try {
      this.check(request.url.href);
      if (this.#proxy) {
        // An address in the URL has been judged.
        if (isIP(request.url.hostname.replace(/^\[|\]$/g, '')) === 0) await this.#vet(request.url.hostname);
        return await exchange(this.#proxy, request, this.#requestMs);
      }
    } catch (error) {
      return {
        kind: 'failure',
        code: codeOf(error),
        message: (error as Error).message,
        answered: false,
        durationMs: 0,
        remoteAddress: undefined,
      };
    }
    return this.#pool.use(request.url.origin, async (connection) => {
      const reused = connection.connected;
      const answer = await exchange(connection.client, request, this.#requestMs);
      // A receiver may close a connection that idles just as we send on it. The bytes and the id are the same: once more, on a new one.
      const once = reused && answer.kind === 'failure' && !answer.answered && closedEarly.has(answer.code) && !request.signal?.aborted;
      const last = once ? await exchange(connection.client, request, this.#requestMs - answer.durationMs) : answer;
      return { ...last, remoteAddress: connection.remoteAddress };
    });
  }

  async close(): Promise<void> {
    await this.#pool.close();
    await this.#proxy?.close();
  }

  #connector(timeout: number, ca: EgressOptions['ca']): ConnectionConnect {
    const lookup: LookupFunction = (name, { all }, callback) => {
      this.#vet(name).then(
        (addresses) => {
          const [first] = addresses;
          if (all) callback(null, [...addresses]);
          else callback(null, first?.address ?? '', first?.family ?? 4);
        },
        (error) => callback(error, ''),
      );
    };
    const connect = buildConnector({ timeout, allowH2: false, lookup, ...(ca === undefined ? {} : { ca: ca as string }) });
    return (options, callback) =>
      connect(options, (error, socket) => {
        if (error) {
          callback(error, null);
          return;
        }
        const address = (socket as Socket).remoteAddress ?? '';
        const problem = this.#addresses.problem(address);
        if (problem === undefined) {
          callback(null, socket as Socket);
          return;
        }
        (socket as Socket).destroy();
        callback(new EgressDeniedError('address', `${options.hostname} led to an address that is not allowed: ${problem}.`), null);
      });
  }

  /** Addresses of a name, all of them allowed. @throws EgressDeniedError */
  async #vet(name: string): Promise<readonly { readonly address: string; readonly family: 4 | 6 }[]> {
    const addresses = await this.#resolve(name);
    for (const { address } of addresses) {
      const problem = this.#addresses.problem(address);
      if (problem) throw new EgressDeniedError('address', `${name} resolves to an address that is not allowed: ${problem}.`);
    }
    return addresses;
  }
}

type ConnectionConnect = buildConnector.connector;

const closedEarly = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE']);

function codeOf(error: unknown): string {
  const { code, name } = error as { code?: unknown; name?: string };
  return typeof code === 'string' ? code : (name ?? 'unknown');
}
