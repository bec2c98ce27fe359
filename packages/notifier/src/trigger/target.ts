import { createHash } from 'node:crypto';

/** The first 132 bits of a SHA-256 hash, as base64url. */
export function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('base64url').slice(0, 22);
}

/** The target of an event that is sent to a URL. An event is sent once to each target. */
export function urlTarget(url: string): string {
  return shortHash(url);
}

/** The target of an event that is sent to an endpoint with a URL of its own, which may be changed. */
export function endpointTarget(endpointId: string): string {
  return `endpoint ${endpointId}`;
}
