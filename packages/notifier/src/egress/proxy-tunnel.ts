import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest, type RequestOptions } from 'node:https';
import type { Socket } from 'node:net';
import type { SecureContext } from 'node:tls';
import { InvalidArgumentError, startTimer } from '@holdfast/core';

export interface ProxyTunnelOptions {
  readonly timeoutMs: number;
  /** For a proxy that is reached by `https:`. */
  readonly secureContext?: SecureContext | undefined;
}

/** Opens a connection to a host and port by way of a forward proxy. */
export type ProxyTunnel = (authority: string, done: (error: Error | null, socket: Socket | undefined) => void) => void;

/** Makes tunnels through a proxy (CONNECT, RFC 9110 section 9.3.6). The proxy resolves the name. @throws InvalidArgumentError */
export function proxyTunnel(text: string, { timeoutMs, secureContext }: ProxyTunnelOptions): ProxyTunnel {
  const proxy = URL.canParse(text) ? new URL(text) : undefined;
  if (proxy?.protocol !== 'http:' && proxy?.protocol !== 'https:')
    throw new InvalidArgumentError('proxy is not a URL with http or https; pass one such as http://proxy.example:3128.');
  const credentials = [proxy.username, proxy.password].map(decodeURIComponent).join(':');
  const headers = credentials === ':' ? {} : { 'proxy-authorization': `Basic ${Buffer.from(credentials).toString('base64')}` };
  const start = (authority: string): ClientRequest =>
    (proxy.protocol === 'https:' ? httpsRequest : httpRequest)({
      host: proxy.hostname.replace(/^\[|\]$/g, ''),
      port: proxy.port,
      method: 'CONNECT',
      path: authority,
      agent: false,
      headers: { host: authority, ...headers },
      ...(secureContext ? { secureContext } : {}),
    } as RequestOptions);
  return (authority, done) => {
    const request = start(authority);
    const timer = startTimer(timeoutMs, () =>
      request.destroy(Object.assign(new Error(`The proxy did not answer within ${timeoutMs} ms.`), { code: 'UND_ERR_CONNECT_TIMEOUT' })),
    );
    const end = (error: Error | null, socket?: Socket): void => {
      timer.clear();
      done(error, socket);
    };
    const refused = (response: IncomingMessage, socket: Socket): void => {
      socket.destroy();
      const error = new Error(`Proxy response (${response.statusCode}) to CONNECT ${authority}; the request did not leave.`);
      end(Object.assign(error, { code: 'PROXY_REFUSED' }));
    };
    request.once('connect', (response: IncomingMessage, socket: Socket, head: Buffer) => {
      if (response.statusCode !== 200) return refused(response, socket);
      if (head.length > 0) socket.unshift(head);
      end(null, socket);
    });
    request.once('error', (error) => end(error));
    request.end();
  };
}
