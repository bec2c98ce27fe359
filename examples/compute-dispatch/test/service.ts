import { silentLogger } from '@holdfast/core';
import { seededRandom, type TestDatabase, type TestDialect } from '@holdfast/core/testing';
import type { EgressOptions } from '@holdfast/notifier';
import type { FastifyInstance } from 'fastify';
import { Algorithm } from '../src/algorithm.ts';
import { openBroker } from '../src/broker.ts';
import { derivedKey, readConfig } from '../src/config.ts';
import { Dispatch, type DispatchOptions } from '../src/dispatch.ts';
import { createServer } from '../src/http/server.ts';
import type { DispatchAdapter } from '../src/room/adapter.ts';
import { httpAdapter } from '../src/room/http-adapter.ts';
import { Rooms, roomControls } from '../src/room/rooms.ts';
import { Messenger } from '../src/room/simulator/messenger.ts';
import { faultless, type Misbehaviour } from '../src/room/simulator/misbehaviour.ts';
import { Room } from '../src/room/simulator/room.ts';
import { createRoomServer } from '../src/room/simulator/server.ts';

const secret = 'x'.repeat(32);
const roomToken = 'r'.repeat(32);

export interface Answer<Body = Record<string, unknown>> {
  readonly status: number;
  readonly body: Body;
  readonly type: string;
}

export interface ServiceOptions
  extends Partial<Pick<DispatchOptions, 'billingMs' | 'losePercent' | 'quarantineMs' | 'reconcileMs' | 'quota' | 'roles'>> {
  readonly machines?: number;
  readonly misbehaviour?: Partial<Misbehaviour>;
  readonly seed?: number;
  readonly egress?: EgressOptions;
  /** Default: a folder without a page. */
  readonly pageFolder?: string;
  readonly crash?: () => void;
}

export interface TestService {
  readonly address: string;
  readonly dispatch: Dispatch;
  readonly room: Room;
  /** How the service calls the room. */
  readonly adapter: DispatchAdapter;
  readonly app: FastifyInstance;
  readonly db: TestDatabase;
  readonly shards: readonly [TestDatabase, TestDatabase];
  readonly adminKey: string;
  key(tenant: string): string;
  /** Asks as a tenant; `admin`: as the operators; `''`: without a key. */
  // biome-ignore lint/suspicious/noExplicitAny: bodies are what the test says they are
  call<Body = any>(
    method: string,
    path: string,
    options?: { readonly as?: string; readonly body?: unknown; readonly tenant?: string },
  ): Promise<Answer<Body>>;
  stop(): Promise<void>;
}

/** The service in this process, with its HTTP face and a simulated room with its own; on databases of its own. */
export async function startService(dialect: TestDialect, options: ServiceOptions = {}): Promise<TestService> {
  const db = await dialect.create();
  const shards = [await dialect.create(), await dialect.create()] as const;
  const random = seededRandom(options.seed ?? 1);
  const messenger = new Messenger({
    send: (events) => dispatch.powerEvents.publish(events),
    misbehaviour: () => room.misbehaviour,
    random,
    logger: silentLogger,
  });
  const room: Room = new Room({
    id: 'room-1',
    machines: options.machines ?? 96,
    packages: ['standard', 'standard', 'standard', 'graphics'],
    random,
    now: () => Date.now(),
    tell: (event) => messenger.tell(event),
  });
  room.misbehaviour = { ...faultless, switchMs: 50, ...options.misbehaviour };
  const roomServer = await createRoomServer(room, roomToken);
  const roomAddress = await roomServer.listen({ port: 0, host: '127.0.0.1' });
  const rooms = new Rooms(db.knex);
  const adapter = httpAdapter({ url: () => rooms.url(), token: roomToken, logger: silentLogger });
  const dispatch: Dispatch = await Dispatch.open({
    reconcileMs: 1_000,
    ...options,
    knex: db.knex,
    logger: silentLogger,
    broker: await openBroker(undefined, db.knex, silentLogger),
    room: adapter,
    secret,
    egress: options.egress ?? {},
    invoiceDatabases: [shards[0].knex, shards[1].knex],
  });
  await rooms.put('room-1', roomAddress);
  await dispatch.reconcile();
  const nowMs = await dispatch.database.now();
  const adminKey = derivedKey(secret, 'admin');
  await dispatch.keys.keep(adminKey, null, nowMs);
  for (const tenant of ['demo', 'test', 'other']) {
    await dispatch.tenants.put(tenant, undefined, nowMs);
    await dispatch.keys.keep(derivedKey(secret, tenant), tenant, nowMs);
    // An order needs an address for callbacks. This one has no host, anywhere (RFC 2606).
    await dispatch.callbacks.register(tenant, 'https://customer.invalid/');
  }
  await dispatch.start();
  const algorithm = new Algorithm({ knex: db.knex, config: readConfig({}), logger: silentLogger });
  await algorithm.start();
  const app = await createServer({
    dispatch,
    algorithm,
    pageFolder: options.pageFolder ?? import.meta.dirname,
    roomToken,
    room: roomControls(rooms, roomToken),
    crash: options.crash,
  });
  const address = await app.listen({ port: 0, host: '127.0.0.1' });
  const key = (tenant: string): string => derivedKey(secret, tenant);
  return {
    address,
    dispatch,
    room,
    adapter,
    app,
    db,
    shards,
    adminKey,
    key,
    async call(method, path, { as = 'test', body, tenant } = {}) {
      const response = await fetch(`${address}${path}`, {
        method,
        headers: {
          ...(as === '' ? {} : { authorization: `Bearer ${as === 'room' ? roomToken : key(as)}` }),
          ...(tenant === undefined ? {} : { 'x-tenant': tenant }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      });
      const text = await response.text();
      const type = response.headers.get('content-type') ?? '';
      return { status: response.status, type, body: type.includes('json') && text !== '' ? JSON.parse(text) : text };
    },
    async stop() {
      await app.close();
      await algorithm.stop();
      await roomServer.close();
      await messenger.close();
      room.close();
      await dispatch.stop();
      for (const one of [db, ...shards]) await one.drop();
    },
  };
}
