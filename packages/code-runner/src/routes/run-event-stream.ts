import { eventStream, type ServerSentEvent } from '@holdfast/http';
import type { RunEvent } from '../runs/run-event.ts';

/** The events of a run as server-sent events. Each has its number as `id`, so a browser that reconnects continues where it was. */
export function runEventStream(events: (signal: AbortSignal) => AsyncIterable<RunEvent>, signal: AbortSignal): Response {
  return eventStream((ended) => serverSent(events(ended)), { signal });
}

async function* serverSent(events: AsyncIterable<RunEvent>): AsyncGenerator<ServerSentEvent> {
  for await (const event of events) yield { id: String(event.seq), event: event.type, data: JSON.stringify(eventJson(event)) };
}

/** An event as JSON. The output of a program is `text` if it is valid UTF-8, and `base64` otherwise. */
export function eventJson(event: RunEvent): Readonly<Record<string, unknown>> {
  if (event.type === 'state') return { ...event };
  const { bytes, ...rest } = event;
  try {
    return { ...rest, text: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes) };
  } catch {
    return { ...rest, base64: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64') };
  }
}
