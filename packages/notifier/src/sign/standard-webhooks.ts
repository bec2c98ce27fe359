import { createHmac, createPrivateKey, createSecretKey, type KeyObject, sign } from 'node:crypto';
import { InvalidKeyError } from '../errors.ts';
import type { Signer } from './signer.ts';

/**
 * Signs as Standard Webhooks (https://www.standardwebhooks.com) says: the headers `webhook-id`, `webhook-timestamp` in seconds, and
 * `webhook-signature` over `id.timestamp.body`. A `whsec_` key makes a `v1,` signature (HMAC-SHA256), a `whsk_` key a `v1a,` signature
 * (ed25519). Every key signs, the current one first, so that a receiver that knows one of them can verify.
 */
export function standardWebhooks(): Signer {
  return {
    name: 'standard-webhooks',
    checkKey: (key) => void parseKey(key),
    headers({ id, timestamp, body }, keys) {
      const head = `${id}.${timestamp}.`;
      const signatures = keys.map((text) => {
        const key = parseKey(text);
        if (key.kind === 'hmac') return `v1,${createHmac('sha256', key.secret).update(head).update(body).digest('base64')}`;
        return `v1a,${sign(null, Buffer.concat([Buffer.from(head), body]), key.privateKey).toString('base64')}`;
      });
      return { 'webhook-id': id, 'webhook-timestamp': String(timestamp), 'webhook-signature': signatures.join(' ') };
    },
  };
}

type Key = { readonly kind: 'hmac'; readonly secret: KeyObject } | { readonly kind: 'ed25519'; readonly privateKey: KeyObject };

const parsed = new Map<string, Key>();
/** DER of a PKCS #8 key up to the 32 bytes of the seed, RFC 8410. */
const pkcs8Head = Buffer.from('302e020100300506032b657004220420', 'hex');

function parseKey(text: string): Key {
  const known = parsed.get(text);
  if (known) return known;
  const key = readKey(text);
  // Keys are few, but they rotate, and it is unknown when one is no longer needed.
  if (parsed.size >= 1_000) parsed.clear();
  parsed.set(text, key);
  return key;
}

function readKey(text: string): Key {
  const [, kind, encoded = ''] = /^(whsec_|whsk_)?(.*)$/s.exec(text) ?? [];
  const bytes = /^[A-Za-z0-9+/]+={0,2}$/.test(encoded) ? Buffer.from(encoded, 'base64') : Buffer.alloc(0);
  if (kind === 'whsk_') {
    // The seed, or the seed and the public key.
    if (bytes.length !== 32 && bytes.length !== 64)
      throw new InvalidKeyError(`A whsk_ key contains ${bytes.length} bytes of base64; an ed25519 key has 32, or 64 with its public half.`);
    return {
      kind: 'ed25519',
      privateKey: createPrivateKey({ key: Buffer.concat([pkcs8Head, bytes.subarray(0, 32)]), format: 'der', type: 'pkcs8' }),
    };
  }
  if (bytes.length < 16)
    throw new InvalidKeyError('A key of Standard Webhooks is whsec_ and base64 of 24 to 64 bytes; this one is not, or is too short.');
  // A KeyObject is made once. Given bytes, createHmac makes one each time, which takes five times as long as the HMAC itself.
  return { kind: 'hmac', secret: createSecretKey(bytes) };
}
