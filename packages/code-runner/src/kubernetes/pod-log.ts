import type { IncomingMessage } from 'node:http';
import type { LogPiece } from '../executor/executor.ts';
import type { KubernetesApi } from './kubernetes-api.ts';

/** Where a log stands: the time of the last line that was whole, how many lines had that very time, and what was seen of the next one. */
interface Position {
  readonly time: string;
  readonly lines: number;
  /** Bytes of the line behind it. */
  readonly offset: number;
}

/** A container run time cuts lines into entries of this size. Kubelets before 1.27 put a time before each, later ones before lines only. */
const entryBytes = 16_384;
const stamp = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)) /;
/** The longest such stamp, and the blank behind it. */
const stampBytes = 36;
const newline = 10;

/**
 * What a container prints, from behind a position on. Each line comes with its time; asked again, the server begins at a whole
 * second, so what was seen of it is dropped. Rejects when the connection breaks: go on from the last position. Lines of any length
 * pass through; nothing waits for their end.
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
      ...(from?.time ? { sinceTime: from.time } : {}),
    },
    { signal: options.signal, idleMs: options.idleMs },
  );
  // Of the line that was begun before: what of it was seen, once it comes again.
  let skip = from?.offset ?? 0;
  let position: Position = from ?? { time: '', lines: 0, offset: 0 };
  let seen: Position = { time: '', lines: 0, offset: 0 };
  for await (const parts of partsOf(stream)) {
    const bytes: Buffer[] = [];
    for (const { time, content, ends } of parts) {
      const known =
        from !== undefined && (later(from.time, time) || (time === from.time && (seen.time === time ? seen.lines : 0) < from.lines));
      if (!known) {
        const dropped = Math.min(skip, content.length);
        skip -= dropped;
        if (content.length > dropped) bytes.push(content.subarray(dropped));
        // A line that is shorter than what was seen of it is another.
        if (ends) skip = 0;
      }
      if (ends) seen = { time, lines: seen.time === time ? seen.lines + 1 : 1, offset: 0 };
      else seen = { ...seen, offset: seen.offset + content.length };
      if (!known) position = seen;
    }
    if (bytes.length > 0) yield { stream: 'stdout', bytes: Buffer.concat(bytes), position: JSON.stringify(position) };
  }
}

function later(one: string, other: string): boolean {
  // Texts of one format and zone: their order is that of time, once they have as many digits.
  const digits = (time: string): string =>
    time.replace(/(?:\.(\d+))?Z$/, (_, fraction: string | undefined) => `.${(fraction ?? '').padEnd(9, '0')}`);
  return digits(one) > digits(other);
}

/** A piece of a line, without the times that were put into it. */
interface Part {
  /** Of its line. */
  readonly time: string;
  readonly content: Buffer;
  readonly ends: boolean;
}

/** Pieces of lines, as they come. */
async function* partsOf(stream: IncomingMessage): AsyncGenerator<Part[]> {
  let rest: Buffer = Buffer.alloc(0);
  let time: string | undefined;
  /** Bytes since the last place where a time may stand. */
  let run = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    rest = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
    const found: Part[] = [];
    for (;;) {
      const mayBeStamp = time === undefined || run === entryBytes;
      if (mayBeStamp) {
        if (rest.length < stampBytes && rest.indexOf(newline) < 0) break;
        const match = stamp.exec(rest.toString('latin1', 0, stampBytes));
        if (match) rest = rest.subarray(match[0].length);
        time ??= match?.[1] ?? '';
        run = 0;
      }
      if (rest.length === 0) break;
      const end = rest.indexOf(newline);
      const length = Math.min(end < 0 ? rest.length : end + 1, entryBytes - run);
      const ends = end >= 0 && length === end + 1;
      found.push({ time: time ?? '', content: Buffer.from(rest.subarray(0, length)), ends });
      rest = rest.subarray(length);
      run += length;
      if (ends) {
        time = undefined;
        run = 0;
      }
    }
    if (found.length > 0) yield found;
  }
  // Too short to be told from a time, and the last: it is what the program printed.
  if (rest.length > 0 && stream.complete) yield [{ time: time ?? '', content: rest, ends: true }];
}
