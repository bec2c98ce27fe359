import { createHash, createHmac } from 'node:crypto';
import { InvalidArgumentError, shownValue } from '@holdfast/core';
import { InvalidKeyError, NotSignableError } from '../errors.ts';
import type { Signer } from './signer.ts';

/**
 * Conventions for signing sorted parameters:
 * - `wechat-md5`, `wechat-hmac`: WeChat Pay v2, MD5 or HMAC-SHA256 of `a=1&b=2&key=KEY`, upper case.
 * - `alipay-md5`: Alipay's classic MD5 of `a=1&b=2KEY`, lower case; `sign_type` is not signed.
 */
export const paramFlavors = ['wechat-md5', 'wechat-hmac', 'alipay-md5'] as const;
/** A convention for signing sorted parameters: one of `paramFlavors`. */
export type ParamFlavor = (typeof paramFlavors)[number];

/** The convention, and the place of the signature. */
export interface SortedParamsOptions {
  /** The convention: WeChat Pay's with MD5 or HMAC-SHA256, or Alipay's with MD5. */
  readonly flavor: ParamFlavor;
  /**
   * `body` adds the parameter `sign` to the payload at the trigger, under the key that is current then. `header` leaves the body unchanged:
   * each attempt carries the signature, under the key that is current then, in a header. Default `body`, as gateways do.
   */
  readonly place?: 'body' | 'header';
  /** Name of that header. Default `x-sign`. */
  readonly header?: string;
}

/**
 * Signs parameters as Chinese payment gateways do: sorted by name, without empty ones and `sign`. The payload must be a flat object of
 * strings.
 */
export function sortedParams(options: SortedParamsOptions): Signer {
  if (!paramFlavors.includes(options?.flavor))
    throw new InvalidArgumentError(`flavor is ${shownValue(options?.flavor)}; give one of ${paramFlavors.join(', ')}.`);
  const { flavor, header = 'x-sign' } = options;
  const base = {
    name: `sorted-params ${flavor}`,
    checkKey(key: string) {
      if (key === '') throw new InvalidKeyError('The key is empty.');
    },
  };
  if (options.place === 'header')
    return {
      ...base,
      seal(payload) {
        signedText(payload);
        return payload;
      },
      headers: ({ body }, [key = '']) => ({ [header]: signParams(JSON.parse(Buffer.from(body).toString()), key, flavor) }),
    };
  return { ...base, seal: (payload, key) => ({ ...(payload as object), sign: signParams(payload, key, flavor) }) };
}

/** Returns the signature of parameters. @throws NotSignableError if receivers might write a value in different ways */
export function signParams(params: unknown, key: string, flavor: ParamFlavor): string {
  const text = signedText(params, flavor === 'alipay-md5' ? ['sign', 'sign_type'] : ['sign']);
  if (flavor === 'alipay-md5') return createHash('md5').update(`${text}${key}`).digest('hex');
  const whole = `${text}&key=${key}`;
  const digest = flavor === 'wechat-md5' ? createHash('md5').update(whole) : createHmac('sha256', key).update(whole);
  return digest.digest('hex').toUpperCase();
}

function signedText(params: unknown, without: readonly string[] = ['sign']): string {
  if (typeof params !== 'object' || params === null || Array.isArray(params))
    throw new NotSignableError('Sorted parameters are signed by name; pass a flat object of strings as payload.');
  const pairs: string[] = [];
  // sort() compares code units, which is ASCII order for the names of parameters.
  for (const name of Object.keys(params).sort()) {
    const value = (params as Record<string, unknown>)[name];
    if (without.includes(name) || value === '' || value === null || value === undefined) continue;
    if (typeof value !== 'string')
      throw new NotSignableError(
        `The parameter ${name} is ${Array.isArray(value) ? 'an array' : typeof value}; sorted parameters must be strings, since numbers and nested values are not written alike everywhere. Pass it as a string.`,
      );
    pairs.push(`${name}=${value}`);
  }
  return pairs.join('&');
}
