import type { Knex } from 'knex';
import { z } from 'zod';
import type { RoomControls } from './room-controls.ts';
import { misbehaviour } from './simulator/misbehaviour.ts';

const rememberedMs = 1_000;

/** The address of the room, kept in the database, so that every process finds the room after it has moved. */
export class Rooms {
  readonly #knex: Knex;
  #url: { readonly value: Promise<string>; readonly untilMs: number } | undefined;

  constructor(knex: Knex) {
    this.#knex = knex;
  }

  async put(id: string, url: string): Promise<void> {
    await this.#knex('dispatch_room').insert({ id, url, network: 'vlan-100' }).onConflict('id').merge(['url']);
  }

  /** @throws Error if no room is known yet */
  url(): Promise<string> {
    const nowMs = performance.now();
    if (this.#url && this.#url.untilMs > nowMs) return this.#url.value;
    const value = this.#read();
    this.#url = { value, untilMs: nowMs + rememberedMs };
    value.catch(() => {
      this.#url = undefined;
    });
    return value;
  }

  async #read(): Promise<string> {
    const row = await this.#knex('dispatch_room').orderBy('id').first();
    if (!row) throw new Error('No room is known yet; name one with DISPATCH_ROOM_URL, or start the service with npm start.');
    return `${String(row.url).replace(/\/$/, '')}/`;
  }
}

const truth = z.object({
  leases: z.array(z.object({ token: z.string(), intervals: z.array(z.object({ fromMs: z.number(), toMs: z.number().nullable() })) })),
});

/** The controls of a simulated room, over its HTTP API. */
export function roomControls(rooms: Rooms, token: string): RoomControls {
  const ask = async <T extends z.ZodType>(method: string, path: string, answer: T, body?: unknown): Promise<z.infer<T>> => {
    const response = await fetch(new URL(path, await rooms.url()), {
      method,
      headers: { authorization: `Bearer ${token}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      signal: AbortSignal.timeout(3_000),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    if (!response.ok) throw new Error(`The room answered ${response.status}.`);
    return answer.parse(await response.json());
  };
  return {
    get: () => ask('GET', 'v1/misbehaviour', misbehaviour),
    set: (change) => ask('PUT', 'v1/misbehaviour', misbehaviour, change),
    truth: async () => (await ask('GET', 'v1/truth', truth)).leases,
  };
}
