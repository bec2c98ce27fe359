import type { RunEvent } from '../runs/run-event.ts';

/** Something is said at least so often, so that proxies and browsers know that the stream lives. */
const aliveMs = 15_000;

/**
 * Events as server-sent events (the WHATWG's HTML standard, 9.2). Each has its number as `id`, so a browser that reconnects goes on where it was;
 * after the last, `event: end` tells it not to. What the reader does not take is not read here either.
 */
export function eventStream(events: AsyncIterable<RunEvent>, abort: AbortController): Response {
  const encoder = new TextEncoder();
  const iterator = events[Symbol.asyncIterator]();
  let next: Promise<IteratorResult<RunEvent>> | undefined;
  const body = new ReadableStream<Uint8Array>(
    {
      start(controller) {
        controller.enqueue(encoder.encode('retry: 1000\n\n'));
      },
      async pull(controller) {
        next ??= iterator.next();
        let timer: NodeJS.Timeout | undefined;
        const late = new Promise<'late'>((resolve) => {
          timer = setTimeout(resolve, aliveMs, 'late');
          timer.unref();
        });
        try {
          const result = await Promise.race([next, late]);
          if (result === 'late') {
            controller.enqueue(encoder.encode(': alive\n\n'));
            return;
          }
          next = undefined;
          if (result.done) {
            controller.enqueue(encoder.encode('event: end\ndata: {}\n\n'));
            controller.close();
          } else controller.enqueue(encoder.encode(block(result.value)));
        } catch {
          // Its reader comes again with the number of the last event that it has.
          controller.close();
        } finally {
          clearTimeout(timer);
        }
      },
      cancel() {
        abort.abort(new Error('the reader has gone'));
        // Also where it waits between two events: it has somebody listening for news.
        void iterator.return?.().then(
          () => undefined,
          () => undefined,
        );
      },
    },
    { highWaterMark: 0 },
  );
  return new Response(body, {
    headers: { 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' },
  });
}

function block(event: RunEvent): string {
  return `id: ${event.seq}\nevent: ${event.type}\ndata: ${JSON.stringify(eventJson(event))}\n\n`;
}

/** An event as JSON: what was printed as text, or in base64 where it is none. */
export function eventJson(event: RunEvent): Readonly<Record<string, unknown>> {
  if (event.type === 'state') return { ...event };
  const { bytes, ...rest } = event;
  try {
    return { ...rest, text: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes) };
  } catch {
    return { ...rest, base64: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64') };
  }
}
