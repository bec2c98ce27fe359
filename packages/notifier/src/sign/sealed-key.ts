import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { InvalidArgumentError } from '@holdfast/core';
import { UnknownKeyError } from '../errors.ts';

/** 256-bit keys by name. The first one encrypts; all of them decrypt. */
export type SealingKeys = Readonly<Record<string, Uint8Array>>;

/**
 * Encrypts a key that came with a trigger, to be stored in a row. AES-256-GCM, bound to the notification's id, so that the text can't be
 * moved to another row. The format is `name.nonce.ciphertext.tag`.
 */
export function sealKey(keys: SealingKeys | undefined, key: string, notification: string): string {
  const [first] = Object.entries(keys ?? {});
  if (!first)
    throw new InvalidArgumentError(
      'signKey is stored encrypted, and there is no key to encrypt it with; pass sealingKeys: { k1: <32 bytes> } to createNotifier.',
    );
  const [name, secret] = first;
  const nonce = randomBytes(12);
  const cipher = createCipheriv('aes-256-gcm', secret, nonce).setAAD(Buffer.from(notification));
  const sealed = Buffer.concat([cipher.update(key, 'utf8'), cipher.final()]);
  return [name, ...[nonce, sealed, cipher.getAuthTag()].map((part) => part.toString('base64url'))].join('.');
}

/** Decrypts a sealed key. @throws UnknownKeyError if the sealing key is missing, or the text was changed */
export function openKey(keys: SealingKeys | undefined, sealed: string, notification: string): string {
  const [name = '', nonce = '', text = '', tag = ''] = sealed.split('.');
  const secret = keys?.[name];
  if (!secret)
    throw new UnknownKeyError(
      `The sealing key ${JSON.stringify(name)} is not among sealingKeys; keep it until the notifications that it encrypted have ended.`,
    );
  try {
    const decipher = createDecipheriv('aes-256-gcm', secret, Buffer.from(nonce, 'base64url')).setAAD(Buffer.from(notification));
    decipher.setAuthTag(Buffer.from(tag, 'base64url'));
    return Buffer.concat([decipher.update(Buffer.from(text, 'base64url')), decipher.final()]).toString('utf8');
  } catch {
    throw new UnknownKeyError(`A sealed key can't be decrypted with ${JSON.stringify(name)}: the sealing key or the row was changed.`);
  }
}

/** Checks the names and lengths of sealing keys. @throws InvalidArgumentError */
export function checkSealingKeys(keys: SealingKeys | undefined): void {
  for (const [name, secret] of Object.entries(keys ?? {})) {
    if (!/^[A-Za-z0-9_-]{1,50}$/.test(name))
      throw new InvalidArgumentError(`sealingKeys contains the name ${JSON.stringify(name)}; use up to 50 letters, digits, - and _.`);
    if (!(secret instanceof Uint8Array) || secret.length !== 32)
      throw new InvalidArgumentError(`The sealing key ${name} has ${secret?.length} bytes; AES-256 takes 32.`);
  }
}
