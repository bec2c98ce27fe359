import type { LookupFunction, Socket } from 'node:net';
import { createSecureContext, type SecureContext } from 'node:tls';
import { type Duration, durationMs, InvalidArgumentError } from '@holdfast/core';
import { buildConnector } from 'undici';
import { EgressDeniedError } from '../errors.ts';
import { AddressRules } from './address-rules.ts';
import { ConnectionPool } from './connection-pool.ts';
import { type Answer, type EgressRequest, exchange } from './exchange.ts';
import { dnsResolver, type Resolve } from './name-resolver.ts';
import { proxyTunnel } from './proxy-tunnel.ts';
import { trustedRoots } from './trusted-roots.ts';
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
   * Certificate authorities (PEM) to trust besides Node's own, for receivers and for a proxy with `https:`. Default: Node's own alone.
   */
  readonly ca?: string | Buffer | readonly (string | Buffer)[];
  /**
   * A forward proxy, such as `http://proxy.example:3128`; never taken from the environment. URLs are checked here, names are resolved by the
   * proxy alone, which must refuse private addresses itself. Default: direct connections.
   */
  readonly proxy?: string;
  /** DNS servers, as `host:port`. One that is slow or fails has the next one asked beside it. Default: the servers of this machine. */
  readonly dnsServers?: readonly string[];
}

/** Ports that are allowed by default. */
const defaultPorts = [80, 443, 8_443];
/** A response head larger than this is refused. */
const maxHeaderBytes = 16_384;
/** Time after which the next address of a name is tried, in ms. Node's 250 give up a receiver on another continent. */
const nextAddressMs = 500;

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
  readonly #proxied: boolean;

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
    // Made once: it parses some 140 certificates.
    const secureContext = options.ca === undefined ? undefined : createSecureContext({ ca: trustedRoots(options.ca) });
    this.#proxied = options.proxy !== undefined;
    const connect =
      options.proxy === undefined ? this.#connector(connectMs, secureContext) : tunnelConnector(options.proxy, connectMs, secureContext);
    this.#pool = new ConnectionPool({ connect, client });
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
      // Through a proxy, the peer is the proxy.
      return { ...last, remoteAddress: this.#proxied ? undefined : connection.remoteAddress };
    });
  }

  async close(): Promise<void> {
    await this.#pool.close();
  }

  #connector(timeout: number, secureContext: SecureContext | undefined): buildConnector.connector {
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
    const connect = buildConnector({
      timeout,
      allowH2: false,
      lookup,
      autoSelectFamily: true,
      autoSelectFamilyAttemptTimeout: nextAddressMs,
      ...(secureContext ? { secureContext } : {}),
    });
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

/** Connects through a proxy. Plain HTTP has a tunnel as well, so that the proxy is asked for the host and port that were checked. */
function tunnelConnector(proxy: string, timeoutMs: number, secureContext: SecureContext | undefined): buildConnector.connector {
  const open = proxyTunnel(proxy, { timeoutMs, secureContext });
  const secure = buildConnector({ timeout: timeoutMs, allowH2: false, ...(secureContext ? { secureContext } : {}) });
  return (options, callback) => {
    const isSecure = options.protocol === 'https:';
    const host = options.hostname.includes(':') ? `[${options.hostname}]` : options.hostname;
    open(`${host}:${options.port || (isSecure ? 443 : 80)}`, (error, socket) => {
      if (error || !socket) callback(error ?? new Error('the proxy opened no tunnel'), null);
      else if (isSecure) secure({ ...options, httpSocket: socket }, callback);
      else callback(null, socket);
    });
  };
}

const closedEarly = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE']);

function codeOf(error: unknown): string {
  const { code, name } = error as { code?: unknown; name?: string };
  return typeof code === 'string' ? code : (name ?? 'unknown');
}
