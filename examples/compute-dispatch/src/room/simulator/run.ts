import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Logger } from '@holdfast/core';
import { seededRandom } from '@holdfast/core/testing';
import { createBroker } from '../../broker.ts';
import { type Config, dataFolder, roomToken } from '../../config.ts';
import type { PowerEvent } from '../../power/event.ts';
import { powerTopic } from '../../topics.ts';
import { Messenger } from './messenger.ts';
import { faultless, ordinary } from './misbehaviour.ts';
import { Room } from './room.ts';
import { createRoomServer } from './server.ts';

const usage = `Usage: npm start -- room [--host 127.0.0.1] [--port 8095] [--service http://127.0.0.1:8080] [--journal FILE]

A simulated machine room as a process of its own. It tells power events over the broker that DISPATCH_BROKER_URL names, else to --service.`;

/** Runs a simulated room until it is stopped. Reports its address on standard output and to its parent. */
export async function runRoom(args: readonly string[], config: Config, logger: Logger): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      port: { type: 'string', default: '8095' },
      host: { type: 'string', default: '127.0.0.1' },
      service: { type: 'string', default: 'http://127.0.0.1:8080' },
      journal: { type: 'string' },
      help: { type: 'boolean' },
    },
  });
  if (values.help) {
    console.log(usage);
    return;
  }
  const token = roomToken(config);
  const random = seededRandom(config.DISPATCH_ROOM_SEED);
  const broker = config.DISPATCH_BROKER_URL === undefined ? undefined : await createBroker(config.DISPATCH_BROKER_URL, 'room', logger);
  const send = broker
    ? async (events: readonly PowerEvent[]): Promise<void> => {
        const results = await broker.publish(
          events.map((event) => ({
            id: event.eventId,
            topic: powerTopic,
            key: event.machineId,
            headers: { ce_time: new Date(event.occurredAtMs).toISOString() },
            body: Buffer.from(JSON.stringify(event)),
            contentType: 'application/json',
          })),
        );
        if (results.some(({ outcome }) => outcome !== 'acked')) throw new Error('not all were taken');
      }
    : async (events: readonly PowerEvent[]): Promise<void> => {
        const response = await fetch(new URL('/v1/room/events', values.service), {
          method: 'POST',
          headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
          body: JSON.stringify({ events }),
          signal: AbortSignal.timeout(5_000),
        });
        await response.arrayBuffer();
        if (!response.ok) throw new Error(`the service answered ${response.status}`);
      };
  const messenger = new Messenger({ send, misbehaviour: () => room.misbehaviour, random, logger });
  const room: Room = new Room({
    id: 'room-1',
    machines: config.DISPATCH_MACHINES,
    // Of four machines one has a graphics card.
    packages: ['standard', 'standard', 'standard', 'graphics'],
    random,
    now: () => Date.now(),
    tell: (event) => messenger.tell(event),
    journal: values.journal ?? (config.DISPATCH_DATABASE_URL === undefined ? join(dataFolder(), 'room.jsonl') : undefined),
  });
  room.misbehaviour = config.DISPATCH_ROOM_FAULTS === 'none' ? faultless : ordinary;
  const app = await createRoomServer(room, token);
  const address = await app.listen({ port: Number(values.port), host: values.host });
  console.log(`room-1 is at ${address} with ${config.DISPATCH_MACHINES} machines. Ctrl-C ends it.`);
  process.send?.({ room: address });
  let stopping = false;
  const stop = async (): Promise<void> => {
    if (stopping) return;
    stopping = true;
    await app.close();
    await messenger.close();
    room.close();
    await broker?.close();
    process.exit(0);
  };
  // A room that was started by the service ends with it.
  if (process.send) process.on('disconnect', () => void stop());
  process.on('SIGINT', () => process.send || void stop());
  process.on('SIGTERM', () => void stop());
}
