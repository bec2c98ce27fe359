import { InvalidArgumentError, jsonText, lostInJson, unfitText } from '@holdfast/core';
import type { Signer } from '../sign/signer.ts';

const maxBodyBytes = 262_144;

/**
 * Returns the body of a request: a text as it is, plain data as JSON, with the signatures that are part of a body.
 * @throws InvalidArgumentError, NotSignableError
 */
export function bodyText(given: unknown, signers: readonly Signer[], key: string): string {
  let payload = given;
  for (const signer of signers) if (signer.seal) payload = signer.seal(payload, key);
  if (typeof payload === 'string') {
    const unfit = unfitText(payload);
    if (unfit) throw new InvalidArgumentError(`The payload contains ${unfit}; send binary data as base64.`);
    const bytes = Buffer.byteLength(payload);
    if (bytes > maxBodyBytes)
      throw new InvalidArgumentError(`The payload is ${bytes} bytes; the limit is ${maxBodyBytes}. Send a link to the data instead.`);
    return payload;
  }
  const json = jsonText(payload, maxBodyBytes, '256 KiB');
  if ('problem' in json) throw new InvalidArgumentError(`The payload ${json.problem}`, json.cause);
  // What was given, not what a signer made of it: it may have copied the properties of a Map, which are none.
  const lost = lostInJson(given, 'payload', 'written') ?? lostInJson(payload, 'payload', 'written');
  if (lost !== undefined)
    throw new InvalidArgumentError(
      `${lost}, and the receiver would get something else. Pass plain data: a date as text, a Map as an object.`,
    );
  return json.text;
}
