import { createHmac, createPublicKey, timingSafeEqual, verify } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { InvalidArgumentError, wallClockMs } from '@holdfast/core';
import { InvalidKeyError, InvalidSignatureError } from '../errors.ts';
import { type SortedParamsOptions, signParams } from '../sign/sorted-params.ts';

/** A Fetch `Request`, or a Node request whose body has not been read yet, or was read into `body` or `rawBody` as a `Buffer` or string. */
export type ReceivableRequest = Request | (IncomingMessage & { readonly body?: unknown; readonly rawBody?: unknown });

/** The keys that a request may be signed with, and its maximum age. */
export interface VerifyOptions {
  /**
   * The accepted keys: `whsec_…`, or `whpk_…` for the public half of an ed25519 key; for sorted parameters, the keys as they are. Pass
   * several while a key is being rotated.
   */
  readonly keys: readonly string[];
  /** Verifies sorted parameters instead of Standard Webhooks. Pass the options that the sender signs with. */
  readonly sortedParams?: SortedParamsOptions;
  /** Maximum age of a request in seconds; its clock may also be ahead by as much. Default 300. Sorted parameters carry no time. */
  readonly toleranceSeconds?: number;
  /** Maximum size of the body in bytes; a larger one is refused. Default 262,144. */
  readonly maxBodyBytes?: number;
}

/** A verified request. */
export interface ReceivedWebhook {
  /**
   * Id of the notification, the same in every attempt: ignore an id that was processed before. Empty if the sender uses sorted parameters
   * only.
   */
  readonly id: string;
  /** Time of this attempt. */
  readonly sentAt: Date | undefined;
  /** The body as it was signed. */
  readonly body: string;
  /**
   * Parses the body as JSON.
   * @throws SyntaxError if it is not valid JSON
   */
  json(): unknown;
}

/**
 * Verifies the signature of a webhook over the received bytes. Call it before anything parses the body.
 * @throws InvalidSignatureError with the reason; answer 400 or 401
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

/** Makes the response that acknowledges a notification. */
export function success(): Response {
  return new Response('success', { headers: { 'content-type': 'text/plain' } });
}

function verifyStandard(bytes: Buffer, id: string, timestamp: string, signatures: string, options: VerifyOptions): void {
  if (id === '' || signatures === '')
    throw new InvalidSignatureError(
      'The request is not signed: webhook-id or webhook-signature is missing. A proxy may have removed them.',
    );
  if (!/^\d{1,12}$/.test(timestamp))
    throw new InvalidSignatureError(`webhook-timestamp is ${JSON.stringify(timestamp)}; it must be a time in seconds.`);
  const age = Math.floor(wallClockMs() / 1_000) - Number(timestamp);
  const tolerance = options.toleranceSeconds ?? 300;
  if (Math.abs(age) > tolerance)
    throw new InvalidSignatureError(
      `The request was signed ${Math.abs(age)} s ${age > 0 ? 'ago' : 'from now'}; the tolerance is ${tolerance} s. The request is a replay, or a clock is wrong.`,
    );
  const signed = Buffer.concat([Buffer.from(`${id}.${timestamp}.`), bytes]);
  for (const part of signatures.split(' ')) {
    const [version, encoded = ''] = part.split(',', 2);
    const signature = Buffer.from(encoded, 'base64');
    for (const key of options.keys) if (matches(version ?? '', signature, signed, key)) return;
  }
  throw new InvalidSignatureError(
    'No signature of the request matches its body under any of the keys; the body was changed or parsed before it was verified, or the sender used another key.',
  );
}

/** DER of an ed25519 public key up to its 32 bytes, RFC 8410. */
const spkiHead = Buffer.from('302a300506032b6570032100', 'hex');

function matches(version: string, signature: Buffer, signed: Buffer, key: string): boolean {
  const [, kind = '', encoded = ''] = /^(whsec_|whpk_)?(.*)$/s.exec(key) ?? [];
  const bytes = Buffer.from(encoded, 'base64');
  if (bytes.length < 16) throw new InvalidKeyError('A key is too short or not valid base64; pass whsec_… or whpk_… as it was issued.');
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
    throw new InvalidSignatureError('The body is not a JSON object of parameters.');
  }
  const given = options.place === 'header' ? header(options.header ?? 'x-sign') : params?.sign;
  if (typeof given !== 'string' || given === '') throw new InvalidSignatureError('The request carries no parameter signature (sign).');
  for (const key of keys) {
    const [expected, actual] = [Buffer.from(signParams(params, key, options.flavor)), Buffer.from(given)];
    if (expected.length === actual.length && timingSafeEqual(expected, actual)) return;
  }
  throw new InvalidSignatureError('The signature does not match the parameters under any of the keys.');
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
      'The body was parsed before it was verified, and its bytes are lost. Verify first: in Express use express.raw, in Fastify a content type parser with parseAs: "buffer".',
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
