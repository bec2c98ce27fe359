import { recordLog } from '@holdfast/core/testing';
import { expect, it } from 'vitest';
import { keepOpen } from './keep-open.ts';

const refusal = new Error('refused');

/** Keeps something open whose openings go as `steps` says; after those it stays open. */
function keeping(steps: readonly ('ends' | 'fails' | 'is refused')[]) {
  const log = recordLog();
  const closing = new AbortController();
  const left = [...steps];
  const kept = keepOpen({
    what: 'the queue',
    open: async () => {
      const step = left.shift();
      if (step === 'is refused') throw refusal;
      if (step === 'fails') throw new Error('away');
      return step === 'ends' ? { ended: Promise.resolve() } : undefined;
    },
    isPermanent: (error) => error === refusal,
    signal: closing.signal,
    logger: log,
  });
  return { log, kept, levels: () => log.lines.map(({ level }) => level) };
}

it('warns once in each outage', async () => {
  const { kept, levels, log } = keeping(['fails', 'fails', 'ends', 'fails']);
  await kept.done;
  expect(levels()).toEqual(['warn', 'debug', 'info', 'warn', 'info']);
  expect(log.lines[0]?.message).toBe("the queue: it can't be opened, or has ended; trying again");
});

it('says that a person must act also when the broker refuses after it was away, once', async () => {
  const { kept, levels, log } = keeping(['ends', 'fails', 'is refused', 'is refused']);
  await kept.done;
  expect(levels()).toEqual(['warn', 'error', 'debug', 'info']);
  expect(log.lines[1]).toMatchObject({
    fields: { err: refusal },
    message: 'the queue: the broker refuses it, and a person must act; trying again',
  });
});

it('ends the first opening with a refusal', async () => {
  const { kept, levels } = keeping(['fails', 'is refused']);
  await expect(kept.opened).rejects.toMatchObject({ code: 'subscribe-refused' });
  expect(levels()).toEqual(['warn']);
});
