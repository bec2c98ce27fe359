/**
 * Describes the first thing in `value` that JSON would write as something else: a Date or whatever has a `toJSON`, a Map, a binary array, NaN,
 * a function, an `undefined` in an array. Returns `undefined` if there is none. A property that is `undefined` is only left out, and an
 * instance of a class is written with its properties: neither counts.
 * @param path the name of the value, as the message calls it
 */
export function lostInJson(value: unknown, path: string): string | undefined {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return undefined;
    case 'number':
      return Number.isFinite(value) ? undefined : `${path} is ${value}, which JSON writes as null`;
    case 'object':
      break;
    default:
      return `${path} is ${typeof value}, which JSON does not have`;
  }
  if (value === null) return undefined;
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) {
      const lost = lostInJson(value[i], `${path}[${i}]`);
      if (lost !== undefined) return lost;
    }
    return undefined;
  }
  const kind = Object.prototype.toString.call(value).slice(8, -1);
  if (kind !== 'Object' || typeof (value as { toJSON?: unknown }).toJSON === 'function')
    return `${path} is a ${kind === 'Object' ? value.constructor?.name || 'object with toJSON' : kind}, which JSON does not have`;
  for (const [key, inner] of Object.entries(value)) {
    const lost = inner === undefined ? undefined : lostInJson(inner, `${path}.${key}`);
    if (lost !== undefined) return lost;
  }
  return undefined;
}
