import { type Database, type Schema, SchemaWriter } from '@holdfast/core';

/** The tables of the broker that is a table. */
export const brokerSchema: Schema = {
  name: 'broker',
  migrations: [{ name: '0001_create', statements: create }],
};

/** Lanes of a group in a topic. Part of the stored rows: never changed. */
export const lanesPerGroup = 16;

/**
 * A message is stored once per group that is to have it, in one of the group's lanes, and deleted when the group has handled it:
 * no positions are kept, so none can pass a row that commits late. What no group is there for waits under the topic itself, in
 * lane `-topic.id`, for the first group that comes.
 */
function create(database: Database): readonly string[] {
  const { family } = database;
  const writer = new SchemaWriter(database);
  const { text, bytes } = writer;
  // Lanes are 32-bit numbers made from a group's id: so ids of groups and topics are.
  const id = {
    postgres: 'SERIAL PRIMARY KEY',
    mysql: 'INTEGER NOT NULL AUTO_INCREMENT PRIMARY KEY',
    sqlite: 'INTEGER PRIMARY KEY AUTOINCREMENT',
  }[family];
  writer.table('broker_topic', `id ${id}, name VARCHAR(191) NOT NULL UNIQUE`);
  writer.table(
    'broker_group',
    `id ${id}, topic_id INTEGER NOT NULL, name VARCHAR(191) NOT NULL, alive_until BIGINT NULL, UNIQUE (topic_id, name)`,
  );
  const message = `topic VARCHAR(191) NOT NULL, message_key VARCHAR(191) NULL, message_id VARCHAR(191) NOT NULL, headers ${text} NOT NULL, body ${bytes} NOT NULL, content_type VARCHAR(100) NOT NULL`;
  const messageId = { postgres: 'BIGSERIAL NOT NULL', mysql: 'BIGINT NOT NULL AUTO_INCREMENT', sqlite: writer.id }[family];
  // Rows of a lane stand together. SQLite counts up in a primary key alone: an index has the lanes there.
  const keys = { postgres: ', PRIMARY KEY (lane, id)', mysql: ', PRIMARY KEY (lane, id), KEY broker_message_id (id)', sqlite: '' }[family];
  writer.table(
    'broker_message',
    `id ${messageId}, lane INTEGER NOT NULL, key_lane SMALLINT NOT NULL, ${message}, put_at BIGINT NOT NULL${keys}`,
  );
  if (family === 'sqlite') writer.index('broker_message_lane', 'broker_message', 'lane, id');
  writer.table(
    'broker_dead',
    `id BIGINT NOT NULL PRIMARY KEY, group_name VARCHAR(191) NOT NULL, ${message}, reason ${text} NOT NULL, dead_at BIGINT NOT NULL`,
  );
  return writer.statements;
}
