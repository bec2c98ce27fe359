import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLogger } from '@holdfast/core';
import { seededRandom, until } from '@holdfast/core/testing';
import type { FastifyInstance } from 'fastify';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { PowerEvent } from '../src/power/event.ts';
import type { DispatchAdapter } from '../src/room/adapter.ts';
import { httpAdapter } from '../src/room/http-adapter.ts';
import { Messenger } from '../src/room/simulator/messenger.ts';
import { faultless } from '../src/room/simulator/misbehaviour.ts';
import { Room, type RoomOptions } from '../src/room/simulator/room.ts';
import { createRoomServer } from '../src/room/simulator/server.ts';
import { roomContract } from './room-contract.ts';

const token = 'a-token-of-the-room';

function newRoom(events: PowerEvent[], more: Partial<RoomOptions> = {}): Room {
  const room = new Room({
    id: 'room-1',
    machines: 40,
    packages: ['standard'],
    random: seededRandom(7),
    now: () => Date.now(),
    tell: (event) => void events.push(event),
    ...more,
  });
  room.misbehaviour = { ...faultless, switchMs: 20 };
  return room;
}

describe('a room in the same process', () => {
  const events: PowerEvent[] = [];
  const room = newRoom(events);
  const adapter: DispatchAdapter = {
    grant: async (requests) => room.grant(requests),
    power: async (commands) => room.power(commands),
    release: async (leases) => room.release(leases),
    list: async ({ after, limit }) => room.list(after, limit),
  };
  afterAll(() => room.close());
  roomContract(() => ({ adapter, events }));
});

describe('a room over HTTP', () => {
  const events: PowerEvent[] = [];
  const room = newRoom(events);
  let app: FastifyInstance;
  let url: string;
  let adapter: DispatchAdapter;
  beforeAll(async () => {
    app = await createRoomServer(room, token);
    url = await app.listen({ port: 0, host: '127.0.0.1' });
    adapter = httpAdapter({ url: async () => url, token, logger: silentLogger, timeoutMs: 500 });
  });
  afterAll(async () => {
    await app.close();
    room.close();
  });
  roomContract(() => ({ adapter, events }));

  it('leaves unknown what it did not answer, or answered wrongly', async () => {
    const ref = { token: 'x1', machineId: 'm-000040', epoch: 9 };
    const request = { ...ref, ip: '10.0.0.1', network: 'n', parameters: {} };
    const unknown = [{ outcome: 'unknown' }];
    // The answer is lost after the machine was granted: asked again, it is granted.
    room.misbehaviour = { ...room.misbehaviour, lostAnswerPercent: 100 };
    expect(await adapter.grant([request])).toEqual(unknown);
    room.misbehaviour = { ...room.misbehaviour, lostAnswerPercent: 0 };
    expect(await adapter.grant([request])).toMatchObject([{ outcome: 'granted' }]);
    room.misbehaviour = { ...room.misbehaviour, answerMs: 2_000 };
    expect(await adapter.power([{ ...ref, to: 'ON' }])).toEqual(unknown);
    room.misbehaviour = { ...room.misbehaviour, answerMs: 0 };
    const wrong = httpAdapter({ url: async () => url, token: 'wrong', logger: silentLogger });
    expect(await wrong.release([ref])).toEqual(unknown);
    await expect(wrong.list({ limit: 1 })).rejects.toThrow('401');
    const nowhere = httpAdapter({ url: async () => 'http://127.0.0.1:1', token, logger: silentLogger });
    expect(await nowhere.grant([request, request])).toEqual([...unknown, ...unknown]);
    await expect(nowhere.list({ limit: 1 })).rejects.toThrow();
  });

  it('refuses what is no request of its protocol', async () => {
    const post = (path: string, body: unknown) =>
      fetch(`${url}${path}`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
    for (const [path, body] of [
      ['/v1/grants', {}],
      ['/v1/grants', { requests: [{ token: 1 }] }],
      ['/v1/power', { commands: [{ token: 'a', machineId: 'm', epoch: 1, to: 'SIDEWAYS' }] }],
      ['/v1/releases', { leases: [{ token: '', machineId: 'm', epoch: -1 }] }],
      ['/v1/releases', { leases: Array.from({ length: 1_001 }, () => ({ token: 'a', machineId: 'm', epoch: 1 })) }],
    ] as const)
      expect((await post(path, body)).status).toBe(400);
  });
});

describe('a simulated room', () => {
  it('is the same after a restart: leases, epochs, and the truth', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'room-'));
    try {
      const journal = join(folder, 'room.jsonl');
      const events: PowerEvent[] = [];
      const room = newRoom(events, { journal });
      const refs = [1, 2].map((n) => ({ token: `t${n}`, machineId: `m-00000${n}`, epoch: 4, ip: '', network: '', parameters: {} }));
      room.grant(refs);
      room.power(refs.map((ref) => ({ ...ref, to: 'ON' as const })));
      await until(() => events.length === 2);
      room.release(refs.slice(0, 1));
      room.close();
      const again = newRoom(events, { journal });
      expect(again.list(undefined, 40).machines).toEqual(room.list(undefined, 40).machines);
      expect(again.truth()).toEqual(room.truth());
      expect(again.grant(refs.slice(0, 1))).toEqual([{ outcome: 'refused', reason: 'stale' }]);
      again.close();
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('loses, repeats, delays and reorders as it is told, and the same for the same seed', async () => {
    const run = async (): Promise<string[]> => {
      const got: string[] = [];
      const messenger = new Messenger({
        send: async (events) => void got.push(...events.map(({ eventId }) => eventId)),
        misbehaviour: () => ({ ...faultless, losePercent: 30, duplicatePercent: 30, delayMs: 100 }),
        random: seededRandom(3),
        logger: silentLogger,
      });
      for (let i = 0; i < 200; i++)
        messenger.tell({ eventId: `e${i}`, roomId: 'r', machineId: 'm', token: 't', epoch: 1, kind: 'ON', occurredAtMs: i, sequence: i });
      await until(() => messenger.waiting === 0);
      await messenger.close();
      return got;
    };
    const [one, two] = [await run(), await run()];
    expect(new Set(one)).toEqual(new Set(two));
    expect(new Set(one).size).toBeLessThan(170);
    expect(one.length).toBeGreaterThan(new Set(one).size);
    expect(one).not.toEqual([...one].sort((a, b) => Number(a.slice(1)) - Number(b.slice(1))));
  });
});
