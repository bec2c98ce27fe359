import { isIP } from 'node:net';
import { EgressDeniedError } from '../errors.ts';
import type { AddressRules } from './address-rules.ts';

export interface UrlRulesOptions {
  readonly allowHttp: boolean;
  readonly ports: ReadonlySet<number>;
  readonly addresses: AddressRules;
}

const maxUrlLength = 2_048;
/** Suffixes that only a private network resolves: RFC 6762, RFC 6761, RFC 8375, and ICANN's `.internal`. */
const privateSuffixes = ['local', 'localhost', 'internal', 'home.arpa'];

/** A text that is not a URL, for an error. One with an `@` may contain a password, and it is not known where: it is not shown. */
function shownText(text: string): string {
  return text.includes('@')
    ? 'The text (not shown, since it may contain a password)'
    : JSON.stringify(text.split(/[?#]/)[0]?.slice(0, 100));
}

/**
 * Parses a URL and checks it as far as its text allows. Names are checked again when they are resolved, before a connection is made. The
 * URL parser normalises spellings of an address (`0x7f.1`, `2130706433`, full-width digits, a trailing dot) before they are checked.
 *
 * @throws EgressDeniedError
 */
export function checkUrl(text: unknown, options: UrlRulesOptions): URL {
  if (typeof text !== 'string' || text === '') throw new EgressDeniedError('syntax', `The URL is ${typeof text}; pass a non-empty string.`);
  if (text.length > maxUrlLength)
    throw new EgressDeniedError('length', `The URL has ${text.length} characters; the limit is ${maxUrlLength.toLocaleString('en')}.`);
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw new EgressDeniedError('syntax', `${shownText(text)} is not an absolute URL; pass one such as https://example.com/hook.`);
  }
  const shown = `${url.protocol}//${url.host}`.slice(0, 100);
  if (url.href.length > maxUrlLength || url.hostname.length > 254)
    throw new EgressDeniedError(
      'length',
      `${shown} is too long; a URL has up to ${maxUrlLength.toLocaleString('en')} characters, a host up to 253.`,
    );
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && options.allowHttp))
    throw new EgressDeniedError('scheme', `${shown} is not https; callbacks are sent encrypted. (allowHttp: true allows plain HTTP.)`);
  if (url.username !== '' || url.password !== '')
    throw new EgressDeniedError('userinfo', `${shown} contains a user name or password; remove them, since requests are signed.`);
  const port = Number(url.port) || (url.protocol === 'https:' ? 443 : 80);
  if (!options.ports.has(port))
    throw new EgressDeniedError(
      'port',
      `${shown} names port ${port}; the allowed ports are ${[...options.ports].join(', ')}. (allowPorts adds more.)`,
    );
  const host = url.hostname.replace(/\.$/, '');
  const literal = host.startsWith('[') ? host.slice(1, -1) : host;
  if (isIP(literal) !== 0) {
    const problem = options.addresses.problem(literal);
    if (problem) throw new EgressDeniedError('address', `${shown} is not allowed: ${problem}.`);
  } else if (!host.includes('.') || privateSuffixes.some((suffix) => host.endsWith(`.${suffix}`))) {
    throw new EgressDeniedError('host', `${shown} is not allowed: ${host || 'an empty name'} is a private name.`);
  }
  url.hash = '';
  return url;
}
