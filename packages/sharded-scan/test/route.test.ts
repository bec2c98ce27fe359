import { execFileSync } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openSqlite } from '@holdfast/core/sqlite';
import { seededRandom } from '@holdfast/core/testing';
import type { Knex } from 'knex';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createTopology, javaHashCode, javaSpread, parseDatabases } from '../src/index.ts';

const folder = mkdtempSync(join(tmpdir(), 'holdfast-shards-'));
let one: Knex;
let two: Knex;
beforeAll(async () => {
  one = openSqlite(join(folder, 'one.db'));
  two = openSqlite(join(folder, 'two.db'));
  for (const knex of [one, two])
    for (let table = 0; table < 4; table++)
      await knex.schema.createTable(`thing_00${table}`, (t) => {
        t.string('id').primary();
      });
});
afterAll(async () => {
  await one.destroy();
  await two.destroy();
  rmSync(folder, { recursive: true, force: true });
});
const topology = () => createTopology({ databases: { '01': one, '02': two }, tables: 4 });
const hasJava = (() => {
  try {
    execFileSync('javac', ['-version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();

describe('the router', () => {
  it('puts keys where the common starter puts them', () => {
    const places: Readonly<Record<string, readonly [database: number, table: number]>> = {
      xiaofuge: [1, 1],
      Uhdgkw766120d: [1, 3],
      fustack: [2, 0],
      张三: [1, 2],
      'Alice@example.com': [2, 3],
      '': [1, 0],
      polygenelubricants: [1, 0],
      'a😀b': [2, 0],
    };
    for (const [key, [database, table]] of Object.entries(places)) {
      expect(topology().forKey(key), key).toMatchObject({ database, table });
    }
    // A text whose hash is the lowest 32-bit number.
    expect(javaHashCode('polygenelubricants')).toBe(-2_147_483_648);
  });

  it.runIf(hasJava)('agrees with a Java virtual machine on 10,000 texts, surrogates alone and in pairs among them', () => {
    const random = seededRandom(42);
    const unit = (): number => {
      const kind = random();
      if (kind < 0.5) return 32 + Math.trunc(random() * 95);
      if (kind < 0.75) return 0x4e00 + Math.trunc(random() * 0x5000);
      return 0xd800 + Math.trunc(random() * 0x800);
    };
    const texts = Array.from({ length: 10_000 }, () =>
      String.fromCharCode(...Array.from({ length: Math.trunc(random() * 40) }, unit)).concat(random() < 0.3 ? '😀𠮷' : ''),
    );
    const hex = texts.map((text) => [...Array(text.length).keys()].map((i) => text.charCodeAt(i).toString(16).padStart(4, '0')).join(''));
    const file = join(folder, 'texts');
    writeFileSync(file, hex.join('\n'));
    const printed = execFileSync('java', [join(import.meta.dirname, 'java', 'Spread.java'), file], {
      encoding: 'utf8',
      maxBuffer: 2 ** 26,
    });
    const lines = printed.trimEnd().split('\n');
    // Java leaves a last empty line out.
    expect(lines.length).toBeGreaterThanOrEqual(9_999);
    lines.forEach((line, i) => {
      expect(line, hex[i]).toBe(`${javaHashCode(texts[i] ?? '')} ${javaSpread(texts[i] ?? '', 8)}`);
    });
  });

  it('spreads evenly over powers of two, and refuses other numbers of tables with that reason', () => {
    const counts = new Map<string, number>();
    for (let i = 0; i < 80_000; i++) {
      const { name } = topology().forKey(`user-${i * 7919}`);
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    expect(counts.size).toBe(8);
    for (const count of counts.values()) expect(Math.abs(count - 10_000)).toBeLessThan(600);
    expect(() => createTopology({ databases: { a: one, b: two }, tables: 3 })).toThrow(
      /6 tables, and java-spread is uniform only for powers of two/,
    );
    expect(() => createTopology({ databases: { a: one, b: two, c: one }, tables: 1 })).toThrow(/powers of two/);
    expect(createTopology({ databases: { a: one, b: two }, tables: 3, hash: 'mod' }).forKey('1454351703703945216')).toMatchObject({
      database: Number((1454351703703945216n % 6n) / 3n) + 1,
      table: Number(1454351703703945216n % 3n),
    });
    const own = createTopology({ databases: { a: one, b: two }, tables: 3, hash: (key) => Number(key) % 2 });
    expect(own.forKey(7)).toMatchObject({ database: 1, table: 1 });
    const bad = createTopology({ databases: { a: one }, tables: 2, hash: () => 2 });
    expect(() => bad.forKey('x')).toThrow(/hash gave 2/);
    expect(() => createTopology({ databases: { a: one }, tables: 3, hash: 'mod' }).forKey('abc')).toThrow(/is not a whole number/);
    for (const key of [1.5, Number.NaN, 2 ** 53, undefined, null, {}]) expect(() => topology().forKey(key as never)).toThrow(/The key is/);
    expect(createTopology({ databases: { a: one }, tables: 3, hash: 'mod' }).forKey(-1)).toMatchObject({ table: 2 });
  });

  it('refuses a topology that can not be right', () => {
    expect(() => createTopology({ databases: {}, tables: 4 })).toThrow(/needs databases/);
    expect(() => createTopology({ databases: { a: {} as never }, tables: 4 })).toThrow(/databases\['a'\] is not a knex/);
    expect(() => createTopology({ databases: { a: one }, tables: 0 })).toThrow(/tables is 0/);
    expect(() => createTopology({ databases: { a: one }, tables: 2, suffix: () => '_x' })).toThrow(/for tables 0 and 1/);
    expect(() => createTopology({ databases: { a: one }, tables: 2, suffix: (i) => `_${i}; DROP` })).toThrow(
      /letters, digits and underscores/,
    );
    expect(() => createTopology({ databases: { a: one }, tables: 2, hash: 'crc32' as never })).toThrow(/hash is "crc32"/);
    for (const place of [
      { database: 0, table: 0 },
      { database: 3, table: 0 },
      { database: 1, table: 4 },
      { database: 1, table: -1 },
      { database: 1.5, table: 0 },
    ])
      expect(() => topology().shard(place)).toThrow(/databases are 1 to 2, tables 0 to 3/);
  });

  it('names tables by their suffix, from 000 or as the option says', () => {
    expect(topology().shards.map(({ name }) => name)).toEqual([
      '01.000',
      '01.001',
      '01.002',
      '01.003',
      '02.000',
      '02.001',
      '02.002',
      '02.003',
    ]);
    const fromOne = createTopology({ databases: { '01': one, '02': two }, tables: 4, suffix: (i) => `_${String(i + 1).padStart(3, '0')}` });
    expect(fromOne.shard({ database: 2, table: 3 }).tableName('user_strategy_export')).toBe('user_strategy_export_004');
    expect(topology().forKey('fustack').tableName('thing')).toBe('thing_000');
  });

  it('queries the shard it says, and no transaction of another database', async () => {
    const shard = topology().forKey('fustack');
    await shard.query('thing').insert({ id: 'x' });
    expect(await two('thing_000')).toEqual([{ id: 'x' }]);
    expect(await one('thing_000')).toEqual([]);
    await shard.transaction(async (trx) => {
      await shard.query('thing', trx).insert({ id: 'y' });
    });
    expect(await two('thing_000')).toHaveLength(2);
    await one.transaction(async (trx) => {
      expect(() => shard.query('thing', trx)).toThrow(/does not belong to database 02/);
    });
    await two('thing_000').delete();
  });

  it('keeps the shard of a function over all that it awaits, restores the outer shard at its end, and never mixes shards up', async () => {
    const t = topology();
    const seen: string[] = [];
    const repository = async (): Promise<void> => {
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 5));
      seen.push(t.current.name);
      await t.current.query('thing').select();
      seen.push(t.current.name);
    };
    await Promise.all(Array.from({ length: 50 }, (_, i) => t.at({ database: 1 + (i % 2), table: i % 4 }, repository)));
    expect(seen).toHaveLength(100);
    await t.at({ database: 1, table: 3 }, async () => {
      await t.atKey('fustack', async (shard) => expect([shard.name, t.current.name]).toEqual(['02.000', '02.000']));
      expect(t.current.name).toBe('01.003');
      await t.at({ database: 2, table: 1 }, () => Promise.reject(new Error('inside'))).catch(() => undefined);
      expect(t.current.name).toBe('01.003');
    });
    expect(() => t.current).toThrow(/No shard is set/);
    expect(() => topology().current).toThrow(/No shard is set/);
  });

  it('keeps the shard in a bound callback of an emitter', async () => {
    const t = topology();
    const emitter = new EventEmitter();
    const heard: string[] = [];
    t.at({ database: 1, table: 2 }, () => {
      emitter.on(
        'event',
        t.bind(() => heard.push(t.current.name)),
      );
    });
    emitter.emit('event');
    t.at({ database: 2, table: 0 }, () => emitter.emit('event'));
    expect(heard).toEqual(['01.002', '01.002']);
    expect(() => t.bind(() => undefined)).toThrow(/No shard is set/);
  });

  it("reads a job's parameter, and refuses what names no database before anything is done", () => {
    expect(parseDatabases('1,2', 2)).toEqual([1, 2]);
    expect(parseDatabases(' 2 , 1,2', 2)).toEqual([1, 2]);
    for (const bad of ['', ' ', '0', '-1', '9', '3', 'x', '1,,2', '1,', '1.5', '1;2', '１'])
      expect(() => parseDatabases(bad, 2), bad).toThrow(/databases 1 to 2/);
    expect(() => parseDatabases('2', 1)).toThrow(/there is database 1/);
    expect(() => parseDatabases(undefined as never, 2)).toThrow(/undefined/);
  });
});
