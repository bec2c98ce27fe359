import { coreSchema, migrate, silentLogger } from '@holdfast/core';
import type { TestDatabase } from '@holdfast/core/testing';
import { createOutbox, outboxSchema, topic } from '@holdfast/outbox';
import { createConnection } from 'mysql2/promise';
import pg from 'pg';
import type { BareMessage, Bench } from './servers.ts';

const anything = {
  '~standard': { version: 1 as const, vendor: 'bench', validate: (value: unknown) => ({ value: value as { k: string; text: string } }) },
};

/** About 200 bytes. */
export function payload(n: number, keys: number): { k: string; text: string } {
  return { k: `k${n % keys}`, text: `message number ${n} `.padEnd(170, '.') };
}

export interface Load {
  readonly n: number;
  /** 0: messages without a key. */
  readonly keys: number;
}

export async function ourOutbox(db: TestDatabase, bench: Bench, { keys }: Pick<Load, 'keys'>) {
  await migrate(db.knex, [coreSchema, outboxSchema]);
  return createOutbox({
    knex: db.knex,
    publisher: bench.ours,
    logger: silentLogger,
    topics: { [bench.topic]: topic(anything, keys > 0 ? { key: ({ k }: { k: string }) => k } : {}) },
  });
}

/** Relays `n` messages that are in the table already. Returns messages per second, from the start of the relay until the table is empty. */
export async function oursDrain(db: TestDatabase, bench: Bench, load: Load, options: object = {}): Promise<number> {
  const outbox = await ourOutbox(db, bench, load);
  await fill(outbox, bench.topic, load);
  await analyze(db, 'outbox_message');
  let published = 0;
  let finished = (): void => undefined;
  const all = new Promise<void>((resolve) => {
    finished = resolve;
  });
  // Connected, as the other contestants' clients are.
  await bench.ours.publish([{ id: 'warm', topic: bench.topic, headers: {}, body: new Uint8Array(), contentType: 'text/plain' }]);
  const relay = outbox.relay(options);
  relay.events.on('message:published', () => {
    if (++published === load.n) finished();
  });
  const started = performance.now();
  await relay.start();
  await all;
  // The time includes the removal of the last row.
  while (Number((await db.knex('outbox_message').count({ n: '*' }))[0]?.n) > 0) await new Promise((resolve) => setTimeout(resolve, 2));
  const seconds = (performance.now() - started) / 1000;
  await outbox.close();
  return load.n / seconds;
}

export async function fill(outbox: Awaited<ReturnType<typeof ourOutbox>>, topicName: string, { n, keys }: Load): Promise<void> {
  for (let from = 0; from < n; from += 1_000)
    await outbox.now().putMany(
      topicName,
      Array.from({ length: 1_000 }, (_, i) => ({ payload: payload(from + i, Math.max(1, keys)) })),
    );
}

/** Updates the statistics for the filled table. */
export async function analyze(db: TestDatabase, table: string): Promise<void> {
  await db.knex.raw(`ANALYZE ${db.name === 'mysql' ? 'TABLE ' : ''}${table}`);
}

async function bareTable(db: TestDatabase, { n, keys }: Load): Promise<void> {
  const mysql = db.name === 'mysql';
  await db.knex.raw(
    mysql
      ? 'CREATE TABLE bare (id BIGINT AUTO_INCREMENT PRIMARY KEY, message_key varchar(191), message_id varchar(191) NOT NULL, body blob NOT NULL, sent_at datetime(3), KEY (sent_at, id))'
      : 'CREATE TABLE bare (id BIGSERIAL PRIMARY KEY, message_key varchar(191), message_id varchar(191) NOT NULL, body bytea NOT NULL, sent_at timestamptz)',
  );
  if (!mysql) await db.knex.raw('CREATE INDEX ON bare (id) WHERE sent_at IS NULL');
  for (let from = 0; from < n; from += 1_000)
    await db.knex('bare').insert(
      Array.from({ length: 1_000 }, (_, i) => ({
        message_key: keys > 0 ? payload(from + i, keys).k : null,
        message_id: `m${from + i}`,
        body: Buffer.from(JSON.stringify(payload(from + i, Math.max(1, keys)))),
      })),
    );
  await analyze(db, 'bare');
}

/** The two statements of the raw drain, on connections of their own. */
interface BareStatements {
  read(after: string): Promise<BareRow[]>;
  remove(ids: readonly string[]): Promise<unknown>;
  end(): Promise<unknown>;
}

async function bareStatements(db: TestDatabase): Promise<BareStatements> {
  if (db.name === 'mysql') {
    const connect = () => createConnection({ uri: db.address, supportBigNumbers: true, bigNumberStrings: true });
    const [reader, remover] = await Promise.all([connect(), connect()]);
    return {
      read: async (after) =>
        (await reader.query('SELECT id, message_key, message_id, body FROM bare WHERE id > ? ORDER BY id LIMIT 500', [after]))[0] as never,
      remove: (ids) => remover.query('DELETE FROM bare WHERE id IN (?)', [ids]),
      end: () => Promise.all([reader.end(), remover.end()]),
    };
  }
  const url = new URL(db.address);
  const schema = url.searchParams.get('schema') ?? 'public';
  url.search = '';
  const client = () => new pg.Client({ connectionString: url.href, options: `-c search_path=${schema}` });
  const [reader, remover] = [client(), client()];
  await Promise.all([reader.connect(), remover.connect()]);
  return {
    read: async (after) =>
      (
        await reader.query({
          name: 'read',
          text: 'SELECT id, message_key, message_id, body FROM bare WHERE id > $1 ORDER BY id LIMIT 500',
          values: [after],
        })
      ).rows,
    remove: (ids) => remover.query({ name: 'remove', text: 'DELETE FROM bare WHERE id = ANY($1::bigint[])', values: [ids] }),
    end: () => Promise.all([reader.end(), remover.end()]),
  };
}

interface BareRow {
  readonly id: string;
  readonly message_key: string | null;
  readonly message_id: string;
  readonly body: Buffer;
}

function bare(row: BareRow): BareMessage {
  return { id: row.message_id, key: row.message_key ?? undefined, body: row.body };
}

/**
 * The limit: a single relay, without leases, order of keys or failures. Batches of 500 are read by id, sent by the broker's own client, and
 * deleted by one statement. While one batch is sent, the next is read and the last is deleted.
 */
export async function rawDrain(db: TestDatabase, bench: Bench, load: Load): Promise<number> {
  await bareTable(db, load);
  const statements = await bareStatements(db);
  const started = performance.now();
  let removing: Promise<unknown> = Promise.resolve();
  let next = statements.read('0');
  for (;;) {
    const rows = await next;
    if (rows.length === 0) break;
    next = statements.read(rows.at(-1)?.id ?? '0');
    await bench.send(rows.map(bare));
    await removing;
    removing = statements.remove(rows.map(({ id }) => id));
  }
  await removing;
  const rate = load.n / ((performance.now() - started) / 1000);
  await statements.end();
  return rate;
}

/** The usual loop: knex, SKIP LOCKED, publish, update, commit. `confirm` messages are sent before their confirms are awaited. */
export async function naiveDrain(db: TestDatabase, bench: Bench, load: Load, batch: number, confirm: number): Promise<number> {
  await bareTable(db, load);
  const { knex } = db;
  const started = performance.now();
  for (;;) {
    const done = await knex.transaction(async (trx) => {
      const rows = (await trx('bare').whereNull('sent_at').orderBy('id').limit(batch).forUpdate().skipLocked()) as BareRow[];
      for (let from = 0; from < rows.length; from += confirm) await bench.send(rows.slice(from, from + confirm).map(bare));
      if (rows.length > 0)
        await trx('bare')
          .whereIn(
            'id',
            rows.map(({ id }) => id),
          )
          .update({ sent_at: trx.fn.now() });
      return rows.length === 0;
    });
    if (done) break;
  }
  return load.n / ((performance.now() - started) / 1000);
}
