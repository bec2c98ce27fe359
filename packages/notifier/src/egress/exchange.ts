import { monotonicMs, startTimer } from '@holdfast/core';
import type { Dispatcher } from 'undici';

/** A POST to be sent. */
export interface EgressRequest {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  readonly signal?: AbortSignal;
}

/** The answer to a request, or its failure. */
export type Answer = Response | Failure;

export interface Response {
  readonly kind: 'response';
  readonly status: number;
  /** By lower-case name; of repeated headers, the last one. */
  readonly headers: Readonly<Record<string, string>>;
  /** The first 2 KiB of the body. */
  readonly body: Buffer;
  /** Number of bytes of the body that were read. */
  readonly bodyBytes: number;
  readonly durationMs: number;
  readonly remoteAddress: string | undefined;
}

export interface Failure {
  readonly kind: 'failure';
  /** `egress-denied`, `timeout`, `aborted`, or the code of undici or the system. */
  readonly code: string;
  readonly message: string;
  /** True if a response had begun. */
  readonly answered: boolean;
  readonly durationMs: number;
  readonly remoteAddress: string | undefined;
}

/** Limit for reading a body. A connection with a longer body is closed. */
const maxBodyBytes = 65_536;
const keptBytes = 2_048;

/**
 * Sends one POST on a dispatcher. The time-out covers the whole exchange, by an abort: undici's `bodyTimeout` is an idle timer, which never
 * fires for a receiver that sends a byte each second.
 */
export function exchange(dispatcher: Dispatcher, request: EgressRequest, timeoutMs: number): Promise<Answer> {
  return new Promise((resolve) => {
    const started = monotonicMs();
    const handler = new ExchangeHandler(started, (answer) => {
      timer.clear();
      request.signal?.removeEventListener('abort', aborted);
      resolve(answer);
    });
    const aborted = (): void => handler.fail('aborted', 'The request was aborted because its worker is stopping or has lost the endpoint.');
    const timer = startTimer(Math.max(1, timeoutMs), () =>
      handler.fail('timeout', `The receiver did not answer completely within ${timeoutMs} ms.`),
    );
    if (request.signal?.aborted) {
      aborted();
      return;
    }
    request.signal?.addEventListener('abort', aborted, { once: true });
    const { url } = request;
    try {
      dispatcher.dispatch(
        {
          origin: url.origin,
          path: url.pathname + url.search,
          method: 'POST',
          headers: request.headers as Record<string, string>,
          body: request.body,
          // No other request is queued behind this one on the connection.
          blocking: false,
        },
        handler,
      );
    } catch (error) {
      handler.onResponseError(undefined, error as Error);
    }
  });
}

class ExchangeHandler implements Dispatcher.DispatchHandler {
  readonly #started: number;
  #resolve: ((answer: Answer) => void) | undefined;
  #controller: Dispatcher.DispatchController | undefined;
  #status = 0;
  #headers: Record<string, string> = {};
  #kept: Buffer[] = [];
  #keptBytes = 0;
  #bodyBytes = 0;

  constructor(started: number, resolve: (answer: Answer) => void) {
    this.#started = started;
    this.#resolve = resolve;
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    // The exchange ended while it waited for a connection.
    if (!this.#resolve) controller.abort(new Error('the exchange has ended'));
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: Record<string, string | string[] | undefined>,
  ): void {
    if (status < 200) return;
    this.#status = status;
    for (const [name, value] of Object.entries(headers)) {
      const last = Array.isArray(value) ? value.at(-1) : value;
      if (last !== undefined) this.#headers[name] = last;
    }
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (!this.#resolve) return;
    this.#bodyBytes += chunk.length;
    if (this.#keptBytes < keptBytes) {
      // A copy, since a slice would keep the whole chunk in memory.
      const part = Buffer.from(chunk.subarray(0, keptBytes - this.#keptBytes));
      this.#kept.push(part);
      this.#keptBytes += part.length;
    }
    if (this.#bodyBytes < maxBodyBytes) return;
    this.#respond();
    controller.abort(new Error('the rest of the body is not read'));
  }

  onResponseEnd(): void {
    this.#respond();
  }

  onResponseError(_controller: Dispatcher.DispatchController | undefined, error: Error): void {
    const { code } = error as { code?: unknown };
    this.#end({
      kind: 'failure',
      code: typeof code === 'string' ? code : error.name,
      message: error.message,
      answered: this.#status > 0,
      durationMs: this.#elapsed(),
      remoteAddress: undefined,
    });
  }

  fail(code: string, message: string): void {
    this.#end({ kind: 'failure', code, message, answered: this.#status > 0, durationMs: this.#elapsed(), remoteAddress: undefined });
    this.#controller?.abort(new Error(message));
  }

  #respond(): void {
    this.#end({
      kind: 'response',
      status: this.#status,
      headers: this.#headers,
      body: this.#kept.length === 1 ? (this.#kept[0] as Buffer) : Buffer.concat(this.#kept),
      bodyBytes: this.#bodyBytes,
      durationMs: this.#elapsed(),
      remoteAddress: undefined,
    });
  }

  #elapsed(): number {
    return Math.round(monotonicMs() - this.#started);
  }

  #end(answer: Answer): void {
    const resolve = this.#resolve;
    this.#resolve = undefined;
    resolve?.(answer);
  }
}
