import { coreSchema, migrate, silentLogger, uuidv7 } from '@holdfast/core';
import { type TestDatabase, testDialects } from '@holdfast/core/testing';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { brokerSchema, databaseBroker } from '../src/database/index.ts';
import type { Message } from '../src/index.ts';

describe.each(testDialects())('a broker in $name', (dialect) => {
  let db: TestDatabase;
  beforeAll(async () => {
    db = await dialect.create();
    await migrate(db.knex, [coreSchema, brokerSchema]);
  });
  afterAll(async () => {
    await db?.drop();
  });

  it('refuses a message that its columns can not hold as poison, and writes the others of the batch', async () => {
    const broker = databaseBroker({ knex: db.knex, logger: silentLogger });
    const message = (fields: Partial<Message>): Message => ({
      id: uuidv7(),
      topic: 't',
      headers: {},
      body: new Uint8Array(1),
      contentType: 'text/plain',
      ...fields,
    });
    const results = await broker.publish([
      message({ key: 'k'.repeat(191) }),
      message({ key: 'k'.repeat(192) }),
      message({ id: 'i'.repeat(192) }),
      message({ topic: 't'.repeat(192) }),
      message({ contentType: 'c'.repeat(101) }),
      message({ key: 'a\0b' }),
      message({ topic: 'a\ud800' }),
      message({}),
    ]);
    const outcomes = results.map(({ outcome }) => outcome);
    expect(outcomes).toEqual(['acked', ...Array<string>(6).fill('poison'), 'acked']);
    await broker.close();
  });
});
