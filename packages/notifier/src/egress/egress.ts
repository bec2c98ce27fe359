import { isIP, type LookupFunction, type Socket } from 'node:net';
import { type Duration, durationMs, InvalidArgumentError } from '@holdfast/core';
import { buildConnector, type Dispatcher, ProxyAgent } from 'undici';
import { EgressDeniedError } from '../errors.ts';
import { AddressRules } from './address-rules.ts';
import { ConnectionPool } from './connection-pool.ts';
import { type Answer, type EgressRequest, exchange } from './exchange.ts';
import { dnsResolver, type Resolve } from './name-resolver.ts';
import { checkUrl } from './url-rules.ts';

/** The destinations that may be called, and the time limits of a request. */
export interface EgressOptions {
  /** Allows `http:` URLs. Default `false`. */
  readonly allowHttp?: boolean;
  /** Ports that are allowed in addition to 80, 443 and 8443. */
  readonly allowPorts?: readonly number[];
  /**
   * Private address ranges that may be called nevertheless, for example `['10.20.0.0/16']`. They hold for triggers, probes and attempts.
   * Default: none.
   */
  readonly allowCidrs?: readonly string[];
  /** Time limit for opening a connection, DNS included. Default 3 s. */
  readonly connectTimeout?: Duration;
  /**
   * Time limit for a whole request: DNS, connection, sending, headers and body. When it has passed, the attempt fails as `timeout`. Default
   * 10 s.
   */
  readonly requestTimeout?: Duration;
  /**
   * Certificate authorities (PEM) to trust in place of Node's default ones. To add one, pass it together with
   * `tls.getCACertificates('default')`.
   */
  readonly ca?: string | Buffer | readonly (string | Buffer)[];
  /**
   * A forward proxy, such as `http://proxy.example:3128`; never taken from the environment. Names are resolved and checked here, but the
   * proxy resolves them again, so it must refuse private addresses itself. Default: direct connections.
   */
  readonly proxy?: string;
  /** DNS servers, as `host:port`. Default: the servers of this machine. */
  readonly dnsServers?: readonly string[];
}

/** Ports that are allowed by default. */
const defaultPorts = [80, 443, 8_443];
/** A response head larger than this is refused. */
const maxHeaderBytes = 16_384;

/**
 * The only place that sends requests to receivers. A destination is checked three times: an address literal in the URL (Node calls no
 * `lookup` for it), every address that a name resolves to (one forbidden address refuses the name), and the remote address of the socket.
 * The checked addresses are those that are connected to: a name is resolved once, so a later change of its addresses has no effect.
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
    this.#ports = new Set([...defaultPorts, ...(options.allowPorts ?? [])]);
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
        : // Plain HTTP goes through a tunnel as well, so that the proxy is asked for the host and port that were checked.
          new ProxyAgent({
            uri: options.proxy,
            proxyTunnel: true,
            proxyTls: { timeout: connectMs },
            ...(options.ca === undefined ? {} : { requestTls: { ca: [options.ca].flat() as (string | Buffer)[] } }),
            ...client,
          });
  }

  /** Parses a URL and checks it as far as its text allows. @throws EgressDeniedError */
  check(url: string): URL {
    return checkUrl(url, { allowHttp: this.#allowHttp, ports: this.#ports, addresses: this.#addresses });
  }

  /** Sends one POST and reads the response, within all limits. Never throws. */
  async post(request: EgressRequest): Promise<Answer> {
    // The rules may have changed since the notification was accepted.
    try {
      this.check(request.url.href);
      if (this.#proxy) {
        // An address literal was checked with the URL.
        if (isIP(request.url.hostname.replace(/^\[|\]$/g, '')) === 0) await this.#resolveAllowed(request.url.hostname);
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
      // A receiver may close an idle connection just as a request is sent on it. Repeat it once on a new connection: bytes and id are the
      // same.
      const repeat = reused && answer.kind === 'failure' && !answer.answered && closedEarly.has(answer.code) && !request.signal?.aborted;
      const last = repeat ? await exchange(connection.client, request, this.#requestMs - answer.durationMs) : answer;
      return { ...last, remoteAddress: connection.remoteAddress };
    });
  }

  async close(): Promise<void> {
    await this.#pool.close();
    await this.#proxy?.close();
  }

  #connector(timeout: number, ca: EgressOptions['ca']): ConnectionConnect {
    const lookup: LookupFunction = (name, { all }, callback) => {
      this.#resolveAllowed(name).then(
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
        callback(new EgressDeniedError('address', `${options.hostname} connected to an address that is not allowed: ${problem}.`), null);
      });
  }

  /** Resolves a name, and checks that all its addresses are allowed. @throws EgressDeniedError */
  async #resolveAllowed(name: string): Promise<readonly { readonly address: string; readonly family: 4 | 6 }[]> {
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
