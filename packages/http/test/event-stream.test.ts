import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { eventStream, type ServerSentEvent } from '../src/index.ts';

async function* of(...events: ServerSentEvent[]): AsyncGenerator<ServerSentEvent> {
  yield* events;
}

it('writes events as the standard says, and an end that tells the reader not to reconnect', async () => {
  const response = eventStream(() => of({ id: '7', event: 'log', data: '{"a":1}' }, { data: 'two\nlines' }), { retryMs: 250 });
  expect(response.headers.get('content-type')).toBe('text/event-stream');
  expect(await response.text()).toBe(
    'retry: 250\n\nid: 7\nevent: log\ndata: {"a":1}\n\ndata: two\ndata: lines\n\nevent: end\ndata: {}\n\n',
  );
});

it('reads an event only when the reader takes it', async () => {
  let read = 0;
  const response = eventStream(async function* () {
    for (;;) yield { data: String(++read) };
  });
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  for (let i = 0; i < 3; i++) await reader.read();
  // The first chunk is `retry`.
  expect(read).toBe(2);
  await reader.cancel();
});

it('sends a comment while nothing happens, and loses no event by it', async () => {
  const response = eventStream(
    async function* () {
      await sleep(60);
      yield { data: 'late' };
    },
    { keepAliveMs: 20 },
  );
  const text = await response.text();
  expect(text).toContain(': alive\n\n');
  expect(text.match(/data: late/g)).toHaveLength(1);
});

it('ends without an end event when its source throws, so that the reader reconnects', async () => {
  const errors: unknown[] = [];
  const response = eventStream(
    async function* () {
      yield { data: 'x' };
      throw new Error('the database is away');
    },
    { onError: (error) => errors.push(error) },
  );
  const text = await response.text();
  expect(text.endsWith('data: x\n\n')).toBe(true);
  expect(errors).toMatchObject([{ message: 'the database is away' }]);
});

it.each(['id', 'event'])('refuses a line break in %s, which would forge an event', async (field) => {
  const errors: unknown[] = [];
  const response = eventStream(() => of({ data: 'x', [field]: '1\ndata: forged' }), { onError: (error) => errors.push(error) });
  expect(await response.text()).not.toContain('forged');
  expect(errors).toMatchObject([{ code: 'invalid-argument' }]);
});

it('tells its source that the reader disconnected, also between two events', async () => {
  let returned = false;
  let aborted = false;
  const response = eventStream((signal) => {
    signal.addEventListener('abort', () => {
      aborted = true;
    });
    return {
      [Symbol.asyncIterator]: () => ({
        next: () => new Promise<never>(() => undefined),
        return: async () => {
          returned = true;
          return { done: true, value: undefined };
        },
      }),
    };
  });
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  await reader.read();
  void reader.read();
  await reader.cancel();
  expect([aborted, returned]).toEqual([true, true]);
});

it('hands a signal that is aborted already to its source', async () => {
  let aborted = false;
  const response = eventStream(
    async function* (signal) {
      aborted = signal.aborted;
      yield* of();
    },
    { signal: AbortSignal.abort() },
  );
  await response.text();
  expect(aborted).toBe(true);
});

it('leaves its source when an event can not be written', async () => {
  let left = false;
  const response = eventStream(async function* () {
    try {
      yield { id: 'a\nb', data: 'x' };
    } finally {
      left = true;
    }
  });
  await response.text();
  expect(left).toBe(true);
});

it('ends with its signal, without an end event, though the source does not heed it', async () => {
  const stop = new AbortController();
  let answer: (() => void) | undefined;
  const response = eventStream(
    async function* () {
      await new Promise<void>((resolve) => {
        answer = resolve;
      });
      yield { data: 'late' };
    },
    { signal: stop.signal },
  );
  const text = response.text();
  await until(() => answer !== undefined);
  stop.abort(new Error('stopping'));
  expect(await text).toBe('retry: 1000\n\n');
  answer?.();
});

it('sends no end event when the source ends because of the signal', async () => {
  const stop = new AbortController();
  let listening = false;
  const response = eventStream(
    async function* (signal) {
      await new Promise<void>((resolve) => {
        signal.addEventListener('abort', () => resolve());
        listening = true;
      });
    },
    { signal: stop.signal },
  );
  const text = response.text();
  await until(() => listening);
  stop.abort();
  expect(await text).not.toContain('event: end');
});
