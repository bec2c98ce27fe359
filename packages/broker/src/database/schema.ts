import type { Database, Schema } from '@holdfast/core';

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
  const mysql = family === 'mysql';
  const end = mysql ? ' ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin' : '';
  const text = mysql ? 'LONGTEXT' : 'TEXT';
  const body = family === 'postgres' ? 'BYTEA' : mysql ? 'LONGBLOB' : 'BLOB';
  const serial = { postgres: 'SERIAL', mysql: 'INTEGER NOT NULL AUTO_INCREMENT', sqlite: 'INTEGER' }[family];
  const primary = family === 'sqlite' ? ' PRIMARY KEY AUTOINCREMENT' : ' PRIMARY KEY';
  const id = { postgres: 'BIGSERIAL NOT NULL', mysql: 'BIGINT NOT NULL AUTO_INCREMENT', sqlite: 'INTEGER PRIMARY KEY AUTOINCREMENT' }[
    family
  ];
  const keys = { postgres: ', PRIMARY KEY (lane, id)', mysql: ', PRIMARY KEY (lane, id), KEY broker_message_id (id)', sqlite: '' }[family];
  const message = `topic VARCHAR(191) NOT NULL, message_key VARCHAR(191) NULL, message_id VARCHAR(191) NOT NULL, headers ${text} NOT NULL, body ${body} NOT NULL, content_type VARCHAR(100) NOT NULL`;
  const table = (name: string, definition: string): string => `CREATE TABLE IF NOT EXISTS ${database.table(name)} (${definition})${end}`;
  return [
    table('broker_topic', `id ${serial}${primary}, name VARCHAR(191) NOT NULL UNIQUE`),
    table(
      'broker_group',
      `id ${serial}${primary}, topic_id INTEGER NOT NULL, name VARCHAR(191) NOT NULL, alive_until BIGINT NULL, UNIQUE (topic_id, name)`,
    ),
    table('broker_message', `id ${id}, lane INTEGER NOT NULL, key_lane SMALLINT NOT NULL, ${message}, put_at BIGINT NOT NULL${keys}`),
    ...(family === 'sqlite'
      ? [`CREATE INDEX IF NOT EXISTS ${database.tablePrefix}broker_message_lane ON ${database.table('broker_message')} (lane, id)`]
      : []),
    table(
      'broker_dead',
      `id BIGINT NOT NULL PRIMARY KEY, group_name VARCHAR(191) NOT NULL, ${message}, reason ${text} NOT NULL, dead_at BIGINT NOT NULL`,
    ),
  ];
}
