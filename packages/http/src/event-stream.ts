import { callListener, guardLogger, InvalidArgumentError } from '@holdfast/core';

/** One server-sent event. */
export interface ServerSentEvent {
  /** The number or cursor with which a reader that reconnects continues (`last-event-id`). Without line breaks. */
  readonly id?: string;
  /** The type of the event. Without line breaks. Default `message`. */
  readonly event?: string;
  /** The payload: JSON as a rule. */
  readonly data: string;
}

/** When a stream of events ends, and how it is kept open. */
export interface EventStreamOptions {
  /** Ends the stream; as a rule the request's signal. */
  readonly signal?: AbortSignal;
  /** How long a reader waits before it reconnects. Default 1,000. */
  readonly retryMs?: number;
  /** A comment is sent after this time without an event, so that proxies and readers see that the connection lives. Default 15,000. */
  readonly keepAliveMs?: number;
  /** Called when `events` throws, which ends the stream. Default: nothing; the reader reconnects. */
  readonly onError?: (error: unknown) => void;
}

/**
 * Answers with server-sent events (HTML standard, 9.2). An event is read from `events` only when the reader takes it, so a slow reader
 * costs no memory. After the last event the reader gets `event: end`, which tells it not to reconnect; if `events` throws, the connection
 * ends without it, and the reader reconnects with the `id` of the last event that it has.
 *
 * `events` gets a signal that aborts when the reader disconnects.
 */
export function eventStream(
  events: (signal: AbortSignal) => AsyncIterable<ServerSentEvent>,
  { signal, retryMs = 1_000, keepAliveMs = 15_000, onError }: EventStreamOptions = {},
): Response {
  const gone = new AbortController();
  const ended = signal ? AbortSignal.any([signal, gone.signal]) : gone.signal;
  const iterator = events(ended)[Symbol.asyncIterator]();
  const encoder = new TextEncoder();
  const aborted = new Promise<'aborted'>((resolve) => {
    if (ended.aborted) resolve('aborted');
    else ended.addEventListener('abort', () => resolve('aborted'), { once: true });
  });
  /** The source may hold a subscription where it is paused between two events; it gives that up on return. */
  const leave = (): void =>
    void iterator.return?.().then(
      () => undefined,
      () => undefined,
    );
  let next: Promise<IteratorResult<ServerSentEvent>> | undefined;
  const body = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        controller.enqueue(encoder.encode(`retry: ${retryMs}\n\n`));
      },
      async pull(controller) {
        next ??= iterator.next();
        let timer: NodeJS.Timeout | undefined;
        const quiet = new Promise<'quiet'>((resolve) => {
          timer = setTimeout(resolve, keepAliveMs, 'quiet');
          timer.unref();
        });
        try {
          const result = await Promise.race([next, quiet, aborted]);
          if (result === 'aborted') {
            leave();
            controller.close();
            return;
          }
          if (result === 'quiet') {
            controller.enqueue(encoder.encode(': alive\n\n'));
            return;
          }
          next = undefined;
          if (result.done) {
            controller.enqueue(encoder.encode('event: end\ndata: {}\n\n'));
            controller.close();
          } else controller.enqueue(encoder.encode(eventBlock(result.value)));
        } catch (error) {
          if (!ended.aborted)
            callListener(
              () => onError?.(error),
              (failure) => guardLogger().error({ err: failure }, 'onError of an event stream failed'),
            );
          gone.abort(error);
          leave();
          controller.close();
        } finally {
          clearTimeout(timer);
        }
      },
      cancel() {
        gone.abort(new Error('The reader disconnected.'));
        leave();
      },
    },
    { highWaterMark: 0 },
  );
  return new Response(body, {
    headers: { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' },
  });
}

function eventBlock({ id, event, data }: ServerSentEvent): string {
  const lines = [
    ...(id === undefined ? [] : [`id: ${oneLine('id', id)}`]),
    ...(event === undefined ? [] : [`event: ${oneLine('event', event)}`]),
    ...data.split(/\r\n|[\r\n]/).map((line) => `data: ${line}`),
  ];
  return `${lines.join('\n')}\n\n`;
}

function oneLine(field: string, text: string): string {
  if (/[\r\n\0]/.test(text))
    throw new InvalidArgumentError(`The ${field} of an event is ${JSON.stringify(text)}; it must not contain line breaks or NUL.`);
  return text;
}
