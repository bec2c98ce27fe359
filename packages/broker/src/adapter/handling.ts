import {
  type Backoff,
  cleanText,
  describeIssues,
  every,
  InvalidArgumentError,
  type Logger,
  startTimer,
  unlessGivenUp,
} from '@holdfast/core';
import type { StandardSchemaV1 } from '@standard-schema/spec';
import type { Message } from '../port/message.ts';
import { ack, type Delivery, type DeliveryVerdict, reject, retry, type SubscribeOptions } from '../port/subscriber.ts';
import { forGroup } from './dead-headers.ts';

/** A delivery whose payload has not been read. */
export type RawDelivery = Omit<Delivery, 'payload'>;

/** Handles one delivery within the bounds of a subscription. Never rejects, and always ends. */
export type Handle = (delivery: RawDelivery) => Promise<DeliveryVerdict>;

/** The time that a handler has after its signal has aborted. Then its delivery is given up. */
const graceMs = 1_000;
const reasonCharacters = 1_000;

/**
 * Wraps a handler of the user's: reads the payload, bounds the handler's time, and turns everything that it may do (throw, return something
 * else, ignore its signal) into a verdict, by the subscription's policy of retries.
 */
export function handling<Payload>(
  options: SubscribeOptions<Payload>,
  handler: (delivery: Delivery<Payload>) => Promise<DeliveryVerdict>,
  logger: Logger,
): Handle {
  const { schema, handlerTimeoutMs = 900_000 } = options;
  const backoff = options.retry ?? every(options.retryMs ?? 1_000);
  return async (raw) => {
    const message = forGroup(raw.message, options.group);
    if (!message) return ack;
    const { id, topic } = message;
    const own = new AbortController();
    const given = raw.signal;
    const passOn = (): void => own.abort(given.reason);
    if (given.aborted) passOn();
    given.addEventListener('abort', passOn, { once: true });
    const timer = startTimer(handlerTimeoutMs, () =>
      own.abort(new Error(`The handler did not end within ${handlerTimeoutMs} ms (handlerTimeoutMs).`)),
    ).unref();
    try {
      const work = async (): Promise<DeliveryVerdict> => {
        const read = schema ? await readPayload(message, schema) : { payload: undefined as Payload };
        if ('unfit' in read) return reject(read.unfit);
        return checked(await handler({ ...raw, message, signal: own.signal, payload: read.payload }));
      };
      return limited(await unlessGivenUp(work(), own.signal, graceMs), raw.attempt, backoff);
    } catch (err) {
      // The member closes, or another one has the delivery: this is not the message's failure.
      if (given.aborted) return retry(0);
      const verdict = failed(err, raw.attempt, backoff);
      logger.warn({ err, id, topic, attempt: raw.attempt, verdict }, `a handler failed; the message is ${fate[verdict.outcome]}`);
      return verdict;
    } finally {
      timer.clear();
      given.removeEventListener('abort', passOn);
    }
  };
}

const fate = { ack: 'acked', retry: 'delivered again', reject: 'put with the dead letters' } as const;

/** The verdict on a delivery whose handler failed at this attempt. */
function failed(error: unknown, attempt: number, backoff: Backoff): DeliveryVerdict {
  const afterMs = backoff.delayMs(attempt);
  if (afterMs !== undefined) return retry(afterMs);
  return reject(reasonOf(`attempt ${attempt} failed and was the last: ${(error as Error)?.message ?? error}`));
}

/** A handler that asks for another attempt gets it only while the policy has one. */
function limited(verdict: DeliveryVerdict, attempt: number, backoff: Backoff): DeliveryVerdict {
  if (verdict.outcome === 'reject') return reject(reasonOf(verdict.reason));
  if (verdict.outcome === 'retry' && attempt >= backoff.maxAttempts)
    return reject(`attempt ${attempt} asked for a retry and was the last.`);
  return verdict;
}

/** @throws InvalidArgumentError for anything that is not a verdict */
function checked(verdict: unknown): DeliveryVerdict {
  const { outcome, afterMs, reason } = (verdict ?? {}) as { outcome?: unknown; afterMs?: unknown; reason?: unknown };
  if (outcome === 'ack') return verdict as DeliveryVerdict;
  if (outcome === 'retry' && typeof afterMs === 'number' && afterMs >= 0 && Number.isFinite(afterMs)) return verdict as DeliveryVerdict;
  if (outcome === 'reject' && typeof reason === 'string') return verdict as DeliveryVerdict;
  throw new InvalidArgumentError(`The handler returned ${describe(verdict)}; return ack, retry(ms) or reject(reason).`);
}

/** Stores and protocols refuse NUL, and headers are for short texts. */
function reasonOf(text: string): string {
  return cleanText(text).slice(0, reasonCharacters);
}

function describe(value: unknown): string {
  try {
    return (JSON.stringify(value) ?? String(value)).slice(0, 100);
  } catch {
    return typeof value;
  }
}

/** The payload of a message, or why it does not fit. */
async function readPayload<Payload>(
  { topic, body }: Message,
  schema: StandardSchemaV1<unknown, Payload>,
): Promise<{ readonly payload: Payload } | { readonly unfit: string }> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch (error) {
    return { unfit: reasonOf(`The body is not JSON: ${(error as Error).message}`) };
  }
  const result = await schema['~standard'].validate(value);
  return result.issues
    ? { unfit: reasonOf(`The payload does not fit the schema of ${topic}: ${describeIssues(result.issues)}.`) }
    : { payload: result.value };
}
