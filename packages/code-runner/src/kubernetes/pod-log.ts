import type { IncomingMessage } from 'node:http';
import type { LogPiece } from '../executor/executor.ts';
import type { KubernetesApi } from './kubernetes-api.ts';

/** Where a log stands: the last line's time, and how many lines of that very time were seen. */
interface Position {
  readonly time: string;
  readonly lines: number;
}

/** A container run time cuts lines into entries of this size, and puts a time before each. */
const entryBytes = 16_384;
const stamp = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)) /;
/** The longest such stamp, and the blank behind it. */
const stampBytes = 36;
const newline = 10;

/**
 * What a container prints, line by line, from behind a position on. Each line comes with its time; asked again, the server begins at
 * a whole second, so what was seen of it is dropped. Rejects when the connection breaks: go on from the last position.
 *
 * Our own, since the client's `Log` throws where nobody can catch it when a connection is reset, and can't go on.
 */
export async function* podLog(
  api: KubernetesApi,
  pod: string,
  options: {
    readonly container: string;
    readonly after: string | null;
    readonly follow: boolean;
    readonly signal: AbortSignal;
    readonly idleMs: number;
  },
): AsyncGenerator<LogPiece> {
  const from = options.after === null ? undefined : (JSON.parse(options.after) as Position);
  const stream = await api.stream(
    `/api/v1/namespaces/${api.namespace}/pods/${pod}/log`,
    {
      container: options.container,
      timestamps: 'true',
      ...(options.follow ? { follow: 'true' } : {}),
      ...(from ? { sinceTime: from.time } : {}),
    },
    { signal: options.signal, idleMs: options.idleMs },
  );
  let position: Position = { time: '', lines: 0 };
  for await (const entries of entriesOf(stream)) {
    const bytes: Buffer[] = [];
    for (const { time, content } of entries) {
      position = { time, lines: time === position.time ? position.lines + 1 : 1 };
      // Texts of one format and zone: their order is that of time, once they have as many digits.
      if (from && (later(from.time, time) || (time === from.time && position.lines <= from.lines))) continue;
      bytes.push(content);
    }
    if (bytes.length > 0) yield { stream: 'stdout', bytes: Buffer.concat(bytes), position: JSON.stringify(position) };
  }
}

function later(one: string, other: string): boolean {
  const digits = (time: string): string =>
    time.replace(/(?:\.(\d+))?Z$/, (_, fraction: string | undefined) => `.${(fraction ?? '').padEnd(9, '0')}`);
  return digits(one) > digits(other);
}

/** Lines with their times, as many as have come. */
async function* entriesOf(stream: IncomingMessage): AsyncGenerator<{ readonly time: string; readonly content: Buffer }[]> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    rest = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
    const found: { time: string; content: Buffer }[] = [];
    let at = 0;
    for (;;) {
      const end = rest.indexOf(newline, at);
      if (end < 0) break;
      found.push(entryOf(rest.subarray(at, end + 1)));
      at = end + 1;
    }
    rest = rest.subarray(at);
    if (found.length > 0) yield found;
  }
  // A last line that has no end is whole: its program has ended. One that was cut comes again, behind the position.
  if (rest.length > 0 && stream.complete) yield [entryOf(rest)];
}

/** One line, without its time and those that were put into it. */
function entryOf(line: Buffer): { readonly time: string; readonly content: Buffer } {
  const first = stamp.exec(line.toString('latin1', 0, stampBytes));
  if (!first) return { time: '', content: line };
  let content = line.subarray(first[0].length);
  const parts: Buffer[] = [];
  while (content.length > entryBytes) {
    const again = stamp.exec(content.toString('latin1', entryBytes, entryBytes + stampBytes));
    if (!again) break;
    parts.push(content.subarray(0, entryBytes));
    content = content.subarray(entryBytes + again[0].length);
  }
  return { time: first[1] ?? '', content: parts.length > 0 ? Buffer.concat([...parts, content]) : Buffer.from(content) };
}
