import type { Redis } from 'ioredis';
import { asRedriven, deadLetterOf, isDeadFor } from '../adapter/dead-headers.ts';
import type { DeadLetter, DeadLetterQuery, DeadLetters, RedriveQuery } from '../port/dead-letters.ts';
import type { Message } from '../port/message.ts';
import { answered } from './answered.ts';
import { fields, laneFor, type RawEntry, readEntry, type StreamLayout, streamKey } from './streams.ts';

export interface RedisDeadLettersOptions extends StreamLayout {
  readonly client: Redis;
  readonly source: string;
}

const page = 100;

/** Moves an entry to another stream, unless it is gone: another process redrives, too. */
const move = `
if redis.call('XDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('XADD', KEYS[2], '*', unpack(ARGV, 2))
return 1`;

/** The dead letters in a topic's stream of them, which its groups share. */
export class RedisDeadLetters implements DeadLetters {
  readonly #options: RedisDeadLettersOptions;
  #turn = 0;

  constructor(options: RedisDeadLettersOptions) {
    this.#options = options;
  }

  async list({ topic, group, limit = 100 }: DeadLetterQuery): Promise<readonly DeadLetter[]> {
    const found: DeadLetter[] = [];
    for await (const { message } of this.#entries(topic, group)) {
      if (found.length >= limit) break;
      found.push(deadLetterOf(message, topic));
    }
    return found;
  }

  async redrive({ topic, group, limit = Number.POSITIVE_INFINITY, ids }: RedriveQuery): Promise<number> {
    const { client, source } = this.#options;
    const wanted = ids && new Set(ids);
    if (wanted?.size === 0) return 0;
    const dead = streamKey(this.#options, topic, 'dead');
    // Those that are rejected again meanwhile are not redriven a second time.
    const [newest] = await answered(client.xrevrange(dead, '+', '-', 'COUNT', 1));
    let moved = 0;
    for await (const { id, message } of this.#entries(topic, group, newest?.[0])) {
      if (moved >= limit) break;
      if (wanted && !wanted.has(message.id)) continue;
      const lane = streamKey(this.#options, topic, laneFor(this.#options, message, this.#turn++));
      const entry = fields(asRedriven(message, topic, group), source);
      moved += Number(await answered(client.eval(move, 2, dead, lane, id, ...entry)));
    }
    return moved;
  }

  async *#entries(topic: string, group: string, until = '+'): AsyncGenerator<{ readonly id: string; readonly message: Message }> {
    const dead = streamKey(this.#options, topic, 'dead');
    for (let from = '-'; ; ) {
      const entries = (await answered(this.#options.client.xrangeBuffer(dead, from, until, 'COUNT', page))) as unknown as RawEntry[];
      for (const entry of entries) {
        const message = readEntry(entry, topic, dead);
        if (isDeadFor(message, group)) yield { id: entry[0].toString(), message };
      }
      const last = entries.at(-1)?.[0].toString();
      if (entries.length < page || last === undefined) return;
      from = `(${last}`;
    }
  }
}
