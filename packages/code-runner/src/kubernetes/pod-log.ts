import type { IncomingMessage } from 'node:http';
import type { LogPiece } from '../executor/executor.ts';
import type { KubernetesApi } from './kubernetes-api.ts';

/** A position in a log: the time of the last complete line, the number of lines with that time, and the bytes read of the next line. */
interface Position {
  readonly time: string;
  readonly lines: number;
  /** Bytes of the next line that were read. */
  readonly offset: number;
}

/**
 * Container run times cut lines into entries of this size. Kubelets before 1.27 put a time before each entry, later ones before each
 * line.
 */
const entryBytes = 16_384;
const stamp = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)) /;
/** The length of the longest such stamp with the blank after it. */
const stampBytes = 36;
const newline = 10;

/**
 * Yields the output of a container after a position. Each line comes with its time. The server can only start at a whole second, so
 * lines that were read before are dropped. Rejects when the connection breaks: call again with the last position. Lines may have any
 * length; their pieces are passed on at once.
 *
 * It is our own, since the client's `Log` throws an error that can't be caught when a connection is reset, and can't continue.
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
  // Bytes to drop of the line that was partly read before, when it comes again.
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
        // A line that is shorter than the bytes read of it is a different line.
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
  // Both have the same format and zone: with equally many digits, they sort by time.
  const digits = (time: string): string =>
    time.replace(/(?:\.(\d+))?Z$/, (_, fraction: string | undefined) => `.${(fraction ?? '').padEnd(9, '0')}`);
  return digits(one) > digits(other);
}

/** A piece of a line, without the times that the kubelet added. */
interface Part {
  /** Time of its line. */
  readonly time: string;
  readonly content: Buffer;
  readonly ends: boolean;
}

/** Splits a stream into pieces of lines. */
async function* partsOf(stream: IncomingMessage): AsyncGenerator<Part[]> {
  let rest: Buffer = Buffer.alloc(0);
  let time: string | undefined;
  /** Bytes since the last place where a time may occur. */
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
  // The end of the stream is too short for a time, so it is output of the program.
  if (rest.length > 0 && stream.complete) yield [{ time: time ?? '', content: rest, ends: true }];
}
