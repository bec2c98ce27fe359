import { type Database, insertNew, keepTrailingSpaces, type Schema, SchemaWriter } from '@holdfast/core';

/** The tables of this package. */
export const outboxSchema: Schema = {
  name: 'outbox',
  migrations: [
    { name: '0001_create', statements: create },
    {
      name: '0002_trailing_spaces',
      statements: (database, sql) =>
        keepTrailingSpaces(database, sql, [
          'outbox_message',
          'outbox_parked',
          'outbox_held',
          'outbox_delayed',
          'outbox_dead',
          'outbox_stripe',
          'inbox_message',
          'inbox_start',
          'inbox_parked',
        ]),
    },
    { name: '0003_retention', statements: retention },
  ],
};

/** Rows of `outbox_stripe`. A put to a topic with `order: 'commit'` locks one of them. */
export const stripes = 4_096;

/**
 * `outbox_message` holds only messages that can be published now. Held, delayed and dead messages have tables of their own, so that
 * reading a lane never passes them. Its one index on Postgres is its primary key (lane, id): no statement looks for an id alone.
 */
function create(database: Database): readonly string[] {
  const { family } = database;
  const mysql = family === 'mysql';
  const ddl = new SchemaWriter(database);
  const { text, bytes } = ddl;
  // SchemaWriter's id is the primary key by itself; the key of these tables is (lane, id).
  const id = family === 'postgres' ? 'BIGSERIAL NOT NULL' : mysql ? 'BIGINT NOT NULL AUTO_INCREMENT' : 'INTEGER PRIMARY KEY AUTOINCREMENT';
  const columns = `topic VARCHAR(191) NOT NULL, message_key VARCHAR(191) NULL, message_id VARCHAR(191) NOT NULL, headers ${text} NULL, body ${bytes} NOT NULL, content_type VARCHAR(100) NOT NULL, tenant VARCHAR(100) NOT NULL DEFAULT '', subject VARCHAR(191) NULL, first_put_at BIGINT NOT NULL`;

  ddl.table(
    'outbox_message',
    `id ${id}, lane INTEGER NOT NULL, ${columns}${family === 'postgres' ? ', PRIMARY KEY (lane, id)' : mysql ? ', PRIMARY KEY (lane, id), KEY outbox_message_id (id)' : ''}`,
  );
  if (family === 'sqlite') ddl.index('outbox_message_lane', 'outbox_message', 'lane, id');
  ddl.table(
    'outbox_parked',
    `id BIGINT NOT NULL, lane INTEGER NOT NULL, hold VARCHAR(400) NOT NULL, ${columns}, PRIMARY KEY (lane, hold, id)`,
  );
  ddl.table(
    'outbox_held',
    `lane INTEGER NOT NULL, hold VARCHAR(400) NOT NULL, until_at BIGINT NULL, attempts INTEGER NOT NULL, error ${text} NULL, PRIMARY KEY (lane, hold)`,
  );
  ddl.table(
    'outbox_delayed',
    `id ${id}, lane INTEGER NOT NULL, ${columns}, due_at BIGINT NOT NULL${family === 'sqlite' ? '' : ', PRIMARY KEY (id)'}`,
  );
  ddl.index('outbox_delayed_due', 'outbox_delayed', 'lane, due_at, id');
  ddl.index('outbox_delayed_message', 'outbox_delayed', 'message_id');
  ddl.table(
    'outbox_dead',
    `id BIGINT NOT NULL PRIMARY KEY, lane INTEGER NOT NULL, ${columns}, reason VARCHAR(20) NOT NULL, error ${text} NULL, dead_at BIGINT NOT NULL`,
  );
  ddl.index('outbox_dead_topic', 'outbox_dead', 'topic, id');
  ddl.table('outbox_stripe', 'stripe INTEGER NOT NULL PRIMARY KEY');
  // 512 rows per statement, which every database accepts.
  for (let from = 0; from < stripes; from += 512) {
    const values = Array.from({ length: 512 }, (_, i) => `(${from + i})`).join(', ');
    const into = `INTO ${database.table('outbox_stripe')} (stripe) VALUES ${values}`;
    ddl.statements.push(insertNew(database, into));
  }
  ddl.table(
    'inbox_message',
    'consumer VARCHAR(100) NOT NULL, message_id VARCHAR(191) NOT NULL, first_put_at BIGINT NOT NULL, PRIMARY KEY (consumer, message_id)',
  );
  ddl.index('inbox_message_age', 'inbox_message', 'first_put_at');
  ddl.table(
    'inbox_start',
    'consumer VARCHAR(100) NOT NULL, message_id VARCHAR(191) NOT NULL, starts INTEGER NOT NULL, started_at BIGINT NOT NULL, PRIMARY KEY (consumer, message_id)',
  );
  ddl.table(
    'inbox_parked',
    `consumer VARCHAR(100) NOT NULL, message_id VARCHAR(191) NOT NULL, topic VARCHAR(191) NOT NULL, message_key VARCHAR(191) NULL, headers ${text} NULL, body ${bytes} NOT NULL, content_type VARCHAR(100) NOT NULL, reason VARCHAR(20) NOT NULL, parked_at BIGINT NOT NULL, PRIMARY KEY (consumer, message_id)`,
  );
  return ddl.statements;
}

/** The indexes by which old rows are purged. */
function retention(database: Database): readonly string[] {
  const ddl = new SchemaWriter(database);
  ddl.index('outbox_dead_age', 'outbox_dead', 'dead_at', { concurrently: true });
  ddl.index('inbox_start_age', 'inbox_start', 'started_at', { concurrently: true });
  ddl.index('inbox_parked_age', 'inbox_parked', 'parked_at', { concurrently: true });
  return ddl.statements;
}
