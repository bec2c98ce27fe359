/**
 * The values that count as lost. `written`: those that JSON writes as something else, such as a Date, NaN, or an `undefined` in an array.
 * `read`: those too that come back as something else: an instance of a class comes back as a plain object, a property that is `undefined` not
 * at all.
 */
export type Lost = 'written' | 'read';

/**
 * Describes the first thing in `value` that JSON loses: a Date or whatever has a `toJSON`, a Map, a binary array, NaN, a function, an
 * `undefined` in an array; see `Lost`. Returns `undefined` if there is none.
 * @param path the name of the value, as the message calls it
 */
export function lostInJson(value: unknown, path: string, counts: Lost): string | undefined {
  const lost = find(value, counts === 'read');
  return lost && `${path}${lost.place} is ${lost.words}`;
}

interface Found {
  /** The place below the value: `.rows[1]`. */
  readonly place: string;
  readonly words: string;
}

/** Makes texts only for what it finds: every payload is looked through, and most lose nothing. */
function find(value: unknown, read: boolean): Found | undefined {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return undefined;
    case 'number':
      return Number.isFinite(value) ? undefined : { place: '', words: `${value}, which JSON writes as null` };
    case 'object':
      break;
    default:
      return { place: '', words: `${typeof value}, which JSON does not have` };
  }
  if (value === null) return undefined;
  if (Array.isArray(value)) {
    // By index: a hole is written as null.
    for (let i = 0; i < value.length; i++) {
      const lost = find(value[i], read);
      if (lost) return { ...lost, place: `[${i}]${lost.place}` };
    }
    return undefined;
  }
  const kind = unfitKind(value, read);
  if (kind !== undefined) return { place: '', words: `a ${kind}, which JSON does not have` };
  for (const key of Object.keys(value)) {
    const inner = (value as Record<string, unknown>)[key];
    const lost = inner === undefined && !read ? undefined : find(inner, read);
    if (lost) return { ...lost, place: `.${key}${lost.place}` };
  }
  return undefined;
}

/** The kind of an object that is lost whatever it holds. */
function unfitKind(value: object, read: boolean): string | undefined {
  const prototype: unknown = Object.getPrototypeOf(value);
  const plain = prototype === Object.prototype || prototype === null;
  const kind = plain ? 'Object' : Object.prototype.toString.call(value).slice(8, -1);
  if (kind !== 'Object') return kind;
  if (typeof (value as { toJSON?: unknown }).toJSON === 'function') return value.constructor?.name || 'object with toJSON';
  return read && !plain ? value.constructor?.name || 'instance of a class' : undefined;
}
