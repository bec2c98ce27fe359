import { expect, it } from 'vitest';
import { FairTurns, type Sender } from './fair-turns.ts';

/** A sender with so many first attempts and so many retries. */
class Backlog implements Sender<string> {
  readonly name: string;
  firsts: number;
  retries: number;

  constructor(name: string, firsts: number, retries: number) {
    this.name = name;
    this.firsts = firsts;
    this.retries = retries;
  }

  take(retries: boolean): { readonly job: string; readonly retry: boolean } | undefined {
    if (retries && this.retries > 0) {
      this.retries -= 1;
      return { job: `${this.name} again`, retry: true };
    }
    if (this.firsts === 0) return undefined;
    this.firsts -= 1;
    return { job: `${this.name} first`, retry: false };
  }
}

function turnsOf(concurrency: number) {
  const begun: string[] = [];
  const ends: (() => void)[] = [];
  const turns = new FairTurns<Backlog, string>({
    concurrency,
    begin: (_, job, done) => {
      begun.push(job);
      ends.push(done);
    },
  });
  return { turns, begun, ends };
}

it('serves senders in turn, whatever they have', () => {
  const { turns, begun, ends } = turnsOf(4);
  for (const sender of [new Backlog('a', 100, 0), new Backlog('b', 100, 0), new Backlog('c', 1, 0)]) turns.offer(sender);
  expect(begun).toEqual(['a first', 'a first', 'a first', 'a first']);
  for (let i = 0; i < 5; i++) ends[i]?.();
  expect(begun.slice(4)).toEqual(['a first', 'b first', 'c first', 'a first', 'b first']);
});

it('keeps a quarter for first attempts while a wave of retries is in flight, and then continues with the wave', () => {
  const { turns, begun, ends } = turnsOf(8);
  turns.offer(new Backlog('old', 0, 100));
  expect(begun).toHaveLength(6);
  turns.offer(new Backlog('new', 2, 0));
  expect(begun.slice(6)).toEqual(['new first', 'new first']);
  ends[0]?.();
  expect(begun.at(-1)).toBe('old again');
  expect(begun).toHaveLength(9);
  for (const end of ends.slice(1, 8)) end();
  expect(begun.filter((job) => job === 'old again').length).toBeGreaterThan(10);
});

it('puts no more on the wire than its bound, first come first', async () => {
  const { turns } = turnsOf(2);
  const order: number[] = [];
  expect([turns.enterWire(), turns.enterWire()]).toEqual([undefined, undefined]);
  const waiting = [1, 2, 3].map((n) => turns.enterWire()?.then(() => order.push(n)));
  turns.leaveWire();
  turns.leaveWire();
  await Promise.all(waiting.slice(0, 2));
  expect(order).toEqual([1, 2]);
});
