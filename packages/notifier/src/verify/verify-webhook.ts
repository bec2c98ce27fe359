import { createHmac, createPublicKey, timingSafeEqual, verify } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { InvalidArgumentError } from '@holdfast/core';
import { InvalidKeyError, InvalidSignatureError } from '../errors.ts';
import { type SortedParamsOptions, signParams } from '../sign/sorted-params.ts';

/** A Fetch `Request`, or a Node request whose body was not read yet, or was read as a `Buffer` or text into `body` or `rawBody`. */
export type ReceivableRequest = Request | (IncomingMessage & { readonly body?: unknown; readonly rawBody?: unknown });

/** Under which keys a request may be signed, and how old it may be. */
export interface VerifyOptions {
  /**
   * Keys that are accepted: `whsec_…`, or `whpk_…` for the public half of an ed25519 key; for sorted parameters, the texts of the keys.
   * Several while a key is being rotated.
   */
  readonly keys: readonly string[];
  /** Verifies sorted parameters instead of Standard Webhooks. As they are signed. */
  readonly sortedParams?: SortedParamsOptions;
  /** How old a request may be, in seconds, and how far ahead its clock. Default 300. Sorted parameters carry no time. */
  readonly toleranceSeconds?: number;
  /** Bodies larger than this are not read. Default 262,144. */
  readonly maxBodyBytes?: number;
}

/** A request that is what it says it is. */
export interface ReceivedWebhook {
  /** The same in every attempt: do nothing the second time. Empty where sorted parameters alone were sent. */
  readonly id: string;
  /** Of this attempt. */
  readonly sentAt: Date | undefined;
  /** As it was signed. */
  readonly body: string;
  /**
   * The body as JSON.
   * @throws SyntaxError if it is none
   */
  json(): unknown;
}

/**
 * Verifies a webhook over the bytes that arrived: give it the request before anything parses it.
 * @throws InvalidSignatureError with what is wrong, for an answer of 400 or 401
 */
export async function verifyWebhook(request: ReceivableRequest, options: VerifyOptions): Promise<ReceivedWebhook> {
  if (!Array.isArray(options?.keys) || options.keys.length === 0)
    throw new InvalidArgumentError('keys is empty; pass the keys that are accepted, as in { keys: [process.env.WEBHOOK_KEY] }.');
  const bytes = await bodyOf(request, options.maxBodyBytes ?? 262_144);
  const header = (name: string): string => headerOf(request, name);
  const id = header('webhook-id');
  const timestamp = header('webhook-timestamp');
  if (options.sortedParams) verifySorted(bytes, header, options.sortedParams, options.keys);
  else verifyStandard(bytes, id, timestamp, header('webhook-signature'), options);
  const body = bytes.toString('utf8');
  const seconds = /^\d{1,12}$/.test(timestamp) ? Number(timestamp) : undefined;
  return { id, sentAt: seconds === undefined ? undefined : new Date(seconds * 1_000), body, json: () => JSON.parse(body) as unknown };
}

/** The answer that acknowledges. */
export function success(): Response {
  return new Response('success', { headers: { 'content-type': 'text/plain' } });
}

function verifyStandard(bytes: Buffer, id: string, timestamp: string, signatures: string, options: VerifyOptions): void {
  if (id === '' || signatures === '')
    throw new InvalidSignatureError(
      'The request is not signed: webhook-id or webhook-signature is missing. A proxy may have taken them off.',
    );
  if (!/^\d{1,12}$/.test(timestamp))
    throw new InvalidSignatureError(`webhook-timestamp is ${JSON.stringify(timestamp)}; it is no time in seconds.`);
  const age = Math.floor(performance.timeOrigin / 1_000 + performance.now() / 1_000) - Number(timestamp);
  const tolerance = options.toleranceSeconds ?? 300;
  if (Math.abs(age) > tolerance)
    throw new InvalidSignatureError(
      `The request was signed ${Math.abs(age)} s ${age > 0 ? 'ago' : 'from now'}; ${tolerance} s are tolerated. It is a replay, or a clock is wrong.`,
    );
  const signed = Buffer.concat([Buffer.from(`${id}.${timestamp}.`), bytes]);
  for (const part of signatures.split(' ')) {
    const [version, encoded = ''] = part.split(',', 2);
    const signature = Buffer.from(encoded, 'base64');
    for (const key of options.keys) if (matches(version ?? '', signature, signed, key)) return;
  }
  throw new InvalidSignatureError(
    'No signature of the request fits its body under any of the keys; the body was changed, parsed before it was verified, or the key is another.',
  );
}

/** DER of an ed25519 public key up to its 32 bytes, RFC 8410. */
const spkiHead = Buffer.from('302a300506032b6570032100', 'hex');

function matches(version: string, signature: Buffer, signed: Buffer, key: string): boolean {
  const [, kind = '', encoded = ''] = /^(whsec_|whpk_)?(.*)$/s.exec(key) ?? [];
  const bytes = Buffer.from(encoded, 'base64');
  if (bytes.length < 16) throw new InvalidKeyError('A key is too short, or no base64; pass whsec_… or whpk_… as it was handed out.');
  if (version === 'v1' && kind !== 'whpk_') {
    const expected = createHmac('sha256', bytes).update(signed).digest();
    return expected.length === signature.length && timingSafeEqual(expected, signature);
  }
  if (version !== 'v1a' || kind !== 'whpk_') return false;
  const publicKey = createPublicKey({ key: Buffer.concat([spkiHead, bytes]), format: 'der', type: 'spki' });
  return verify(null, signed, publicKey, signature);
}

function verifySorted(bytes: Buffer, header: (name: string) => string, options: SortedParamsOptions, keys: readonly string[]): void {
  let params: Record<string, unknown>;
  try {
    params = JSON.parse(bytes.toString('utf8')) as Record<string, unknown>;
  } catch {
    throw new InvalidSignatureError('The body is no JSON object of parameters.');
  }
  const given = options.place === 'header' ? header(options.header ?? 'x-sign') : params?.sign;
  if (typeof given !== 'string' || given === '') throw new InvalidSignatureError('The request carries no sign.');
  for (const key of keys) {
    const [expected, actual] = [Buffer.from(signParams(params, key, options.flavor)), Buffer.from(given)];
    if (expected.length === actual.length && timingSafeEqual(expected, actual)) return;
  }
  throw new InvalidSignatureError('The sign does not fit the parameters under any of the keys.');
}

function headerOf(request: ReceivableRequest, name: string): string {
  const value = request.headers instanceof Headers ? request.headers.get(name) : (request as IncomingMessage).headers[name];
  return typeof value === 'string' ? value.trim() : '';
}

async function bodyOf(request: ReceivableRequest, maxBytes: number): Promise<Buffer> {
  const given =
    'rawBody' in request && request.rawBody !== undefined ? request.rawBody : request instanceof Request ? undefined : request.body;
  if (typeof given === 'string') return bounded(Buffer.from(given), maxBytes);
  if (given instanceof Uint8Array) return bounded(Buffer.from(given), maxBytes);
  if (given !== undefined && given !== null)
    throw new InvalidArgumentError(
      'The body was parsed before it was verified, and its bytes are gone. Verify first: in Express use express.raw, in Fastify a content type parser with parseAs: "buffer".',
    );
  const source: AsyncIterable<Uint8Array> | null =
    request instanceof Request ? (request.body as unknown as AsyncIterable<Uint8Array>) : request;
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of source ?? []) {
    size += chunk.length;
    if (size > maxBytes) throw new InvalidSignatureError(`The body is larger than ${maxBytes} bytes.`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function bounded(body: Buffer, maxBytes: number): Buffer {
  if (body.length > maxBytes) throw new InvalidSignatureError(`The body is larger than ${maxBytes} bytes.`);
  return body;
}
