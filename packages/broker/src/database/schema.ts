import { type Database, keepTrailingSpaces, type Schema, SchemaWriter } from '@holdfast/core';

/** The tables of `databaseBroker`. */
export const brokerSchema: Schema = {
  name: 'broker',
  migrations: [
    { name: '0001_create', statements: create },
    {
      name: '0002_trailing_spaces',
      statements: (database, sql) => keepTrailingSpaces(database, sql, ['broker_topic', 'broker_group', 'broker_message', 'broker_dead']),
    },
    {
      name: '0003_dead_letters_of_a_group',
      statements: (database) => {
        const writer = new SchemaWriter(database);
        writer.index('broker_dead_group', 'broker_dead', 'group_name, topic, id');
        return writer.statements;
      },
    },
  ],
};

/** Lanes per group and topic. Stored rows depend on it: it must never change. */
export const lanesPerGroup = 16;

/**
 * A message is stored once per group, in one of the group's lanes, and deleted when the group has handled it: no read positions are
 * stored, so none can pass a row that commits late. Messages of a topic without a group wait in lane `-topic.id` for the first group.
 */
function create(database: Database): readonly string[] {
  const { family } = database;
  const writer = new SchemaWriter(database);
  const { text, bytes } = writer;
  // 32 bits: lanes are 32-bit numbers that are computed from these ids.
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
  // Rows of a lane lie together. SQLite numbers rows only by a primary key of one column, so there an index orders the lanes.
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
