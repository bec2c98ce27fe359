import {
  DatabaseUnavailableError,
  every,
  InvalidArgumentError,
  MigrationRequiredError,
  migrate,
  NotInTransactionError,
  SchemaNewerError,
} from '@holdfast/core';
import knexFactory from 'knex';
import { expect, it } from 'vitest';
import { bizType, compensateBizSchema, createCompensateBiz, InvalidContextError, UnknownTypeError } from '../src/index.ts';
import { onEveryDatabase } from './suite.ts';
import { any, schemaOf } from './suite-schema.ts';

onEveryDatabase('bad input', (suite) => {
  const t = () => suite.db.knex('compensate_biz');
  const strict = schemaOf<{ n: number }>((value) => (typeof (value as { n?: unknown })?.n === 'number' ? undefined : 'must be a number'));
  const biz = () =>
    suite.create({ plain: bizType(any), strict: bizType(strict), serial: bizType(any, { serial: true }) }, { maxContextBytes: 1_000 });
  const nul = String.fromCharCode(0);
  const lone = String.fromCharCode(0xd800);
  const cycle: Record<string, unknown> = {};
  cycle.self = cycle;
  const throwsUndefined = () => {
    throw undefined;
  };

  it('is a filter with a name that does not exist: it would select rows that were not asked for', async () => {
    const misspelt = { type: 'plain', tenat: 'acme' } as const;
    await expect(biz().redrive(misspelt, { dryRun: true })).rejects.toThrow(/has no filter tenat; it has .*tenant/);
    await expect(biz().find({ bizid: '7' } as never)).rejects.toThrow(/has no filter bizid/);
  });

  it.each([
    ['an unknown type', 'nope', {}, {}, UnknownTypeError, /nope.*"plain", "strict", "serial"/],
    ['a type named like a method of objects', 'toString', {}, {}, UnknownTypeError, /toString/],
    ['a context that does not fit its schema', 'strict', { n: 'one' }, {}, InvalidContextError, /strict.*must be a number/],
    [
      'a context over the limit',
      'plain',
      { text: 'x'.repeat(1_001) },
      {},
      InvalidContextError,
      /bytes; the limit is 1000.*maxContextBytes/,
    ],
    ['an option that does not exist', 'plain', {}, { bizID: 7 }, InvalidArgumentError, /submit has no bizID; it has bizId, once/],
    ['a NUL', 'plain', { text: `a${nul}b` }, {}, InvalidContextError, /NUL/],
    ['a lone surrogate', 'plain', { text: `a${lone}b` }, {}, InvalidContextError, /surrogate/],
    ['a lone surrogate in a key', 'plain', { [lone]: 1 }, {}, InvalidContextError, /surrogate/],
    ['a cycle', 'plain', cycle, {}, InvalidContextError, /JSON/],
    ['a bigint', 'plain', { n: 1n }, {}, InvalidContextError, /JSON/],
    ['a value that throws undefined', 'plain', { toJSON: throwsUndefined }, {}, InvalidContextError, /JSON/],
    ['a negative delay', 'plain', {}, { delay: -1 }, InvalidArgumentError, /delay.*-1/],
    ['an absurd delay', 'plain', {}, { delay: '1e9d' }, InvalidArgumentError, /delay/],
    ['a delay that is no duration', 'plain', {}, { delay: 'soon' }, InvalidArgumentError, /delay.*soon/],
    ['a fractional priority', 'plain', {}, { priority: 1.5 }, InvalidArgumentError, /priority.*1\.5/],
    ['an absurd priority', 'plain', {}, { priority: 1e12 }, InvalidArgumentError, /priority/],
    ['an empty once key', 'plain', {}, { once: '' }, InvalidArgumentError, /once/],
    ['a once key too long', 'plain', {}, { once: 'k'.repeat(192) }, InvalidArgumentError, /once/],
    ['a NUL in a bizId', 'plain', {}, { bizId: `a${nul}` }, InvalidArgumentError, /bizId.*NUL/],
    ['a tenant too long', 'plain', {}, { tenant: 't'.repeat(101) }, InvalidArgumentError, /tenant.*100/],
    ['a serial type without a bizId', 'serial', {}, {}, InvalidArgumentError, /bizId/],
  ] as const)('refuses %s, and writes nothing', async (_name, type, context, options, error, message) => {
    const registry = biz();
    const before = Number((await t().count({ n: '*' }))[0]?.n);
    for (const submit of [
      () => registry.now().submit(type as 'plain', context as never, options as never),
      () => registry.now().submitMany(type as 'plain', [{ n: 1 }, context] as never, options as never),
      () => suite.db.knex.transaction((trx) => registry.in(trx).submit(type as 'plain', context as never, options as never)),
    ]) {
      const failure = await submit().then(
        () => undefined,
        (reason: Error) => reason,
      );
      expect(failure).toBeInstanceOf(error);
      expect(failure?.message).toMatch(message);
    }
    expect(Number((await t().count({ n: '*' }))[0]?.n)).toBe(before);
  });

  it('isolates a row that fails from those submitted beside it', async () => {
    const registry = biz();
    const results = await Promise.allSettled([
      ...Array.from({ length: 20 }, (_, n) => registry.now().submit('strict', { n })),
      registry.now().submit('strict', { n: 'bad' } as never),
    ]);
    expect(results.map(({ status }) => status)).toEqual([...Array(20).fill('fulfilled'), 'rejected']);
  });

  it('refuses to write outside of a transaction, or in one that has ended', async () => {
    const registry = biz();
    expect(() => registry.in(suite.db.knex as never)).toThrow(NotInTransactionError);
    const trx = await suite.db.knex.transaction();
    const submitter = registry.in(trx);
    await trx.commit();
    await expect(submitter.submit('plain', {})).rejects.toThrow(/transaction/i);
  });

  it('says at once what is wrong with a type, a handler, a worker', () => {
    const registry = biz();
    const refused = (make: () => unknown, message: RegExp) => expect(make).toThrow(message);
    refused(() => createCompensateBiz({ knex: suite.db.knex, types: {} }), /types is missing or empty/);
    refused(() => createCompensateBiz({ knex: suite.db.knex, types: { 'fan-out': bizType(any) } }), /can't be named fan-out/);
    refused(() => createCompensateBiz({ knex: undefined as never, types: { a: bizType(any) } }), /knex is missing/);
    refused(() => createCompensateBiz({ knex: suite.db.knex, types: { a: bizType(any) }, tablePrefix: 'a; DROP' }), /tablePrefix/);
    refused(() => bizType(undefined as never), /Standard Schema/);
    refused(() => bizType(any, { concurrency: 0 }), /concurrency is 0/);
    refused(() => bizType(any, { maxLost: 1 }), /maxLost is 1.*at least 2/);
    refused(() => bizType(any, { timeout: -5 }), /timeout.*-5/);
    refused(() => bizType(any, { keep: 'soon' as never }), /keep.*soon/);
    refused(() => bizType(any, { version: 3, upcast: { 2: () => ({}) } }), /upcast has no step from version 1/);
    refused(() => bizType(any, { globalConcurrency: 2.5 }), /globalConcurrency is 2\.5/);
    refused(() => bizType(any, { globalConcurrency: Number.MAX_SAFE_INTEGER }), /globalConcurrency is 9007199254740991.*from 1 to 10,000/);
    refused(() => bizType(any, { breaker: { openMs: Number.NaN } }), /breaker.openMs/);
    refused(() => bizType(any, { retry: every('1s').upTo(0) }), /upTo/);
    refused(() => registry.handle('nope' as never, () => undefined), /nope/);
    refused(() => registry.worker(), /No type has a handler/);
    registry.handle('plain', () => undefined);
    refused(() => registry.handle('plain', () => undefined), /has a handler already/);
    refused(() => registry.handleBatch('strict', { size: 0 }, () => undefined), /size is 0/);
    refused(() => registry.handleBatch('serial', { size: 5 }, () => undefined), /serial/);
    refused(() => registry.worker({ types: ['strict'] }), /strict has no handler/);
    refused(() => registry.worker({ lease: 'long' as never }), /lease.*long/);
    refused(() => registry.worker({ sweep: { cron: 'every now and then' } }), /cron/i);
  });

  it('refuses tables that lack a migration, and goes on with newer ones, saying so', async () => {
    const warnings: string[] = [];
    const logger = { debug() {}, info() {}, error() {}, warn: (_fields: object, message: string) => void warnings.push(message) };
    const absent = suite.create({ plain: bizType(any) }, { tablePrefix: 'absent_' });
    absent.handle('plain', () => undefined);
    await expect(absent.worker().start()).rejects.toThrow(MigrationRequiredError);
    await suite.db.knex('holdfast_compensate_biz_migrations').insert({ name: '9999_later', migration_time: new Date() });
    const registry = suite.create({ plain: bizType(any) }, { logger });
    await registry.check();
    expect(warnings.some((line) => /newer version/.test(line))).toBe(true);
    await expect(migrate(suite.db.knex, [compensateBizSchema])).rejects.toThrow(SchemaNewerError);
    await suite.db.knex('holdfast_compensate_biz_migrations').where({ name: '9999_later' }).delete();
  });

  it('refuses ids and queries that are none', async () => {
    const registry = biz();
    for (const id of ['', 'x', '1; DROP', '-1', '1.5', nul]) {
      await expect(suite.db.knex.transaction((trx) => registry.in(trx).cancel({ id }))).rejects.toThrow(InvalidArgumentError);
      await expect(registry.redrive(id, { actor: 'a', reason: 'r' })).rejects.toThrow(InvalidArgumentError);
      await expect(registry.inspect().get(id)).rejects.toThrow(InvalidArgumentError);
    }
    await expect(registry.list({ limit: 0 })).rejects.toThrow(InvalidArgumentError);
    await expect(registry.list({ after: 'x' })).rejects.toThrow(InvalidArgumentError);
    await expect(registry.fanOut('plain', [], { key: '' })).rejects.toThrow(InvalidArgumentError);
    await expect(registry.fanOut('plain', [], { key: 'k', chunk: 0 })).rejects.toThrow(/chunk is 0/);
    expect(await registry.redrive('999999999', { actor: 'a', reason: 'r' })).toBe(false);
  });
});

onEveryDatabase(
  'a server that is not there',
  (suite) => {
    it('says what to do when tables are missing, and when nothing answers', async () => {
      const lost = createCompensateBiz({ knex: suite.db.knex, types: { none: bizType(any) }, tablePrefix: 'absent_' });
      await expect(lost.check()).rejects.toThrow(MigrationRequiredError);
      await lost.close();
      const client = suite.db.name === 'postgres' ? 'pg' : 'mysql2';
      const nowhere = knexFactory({ client, connection: { host: '127.0.0.1', port: 1, user: 'x', database: 'x' } });
      const biz = createCompensateBiz({ knex: nowhere, types: { none: bizType(any) } });
      await expect(biz.now().submit('none', {})).rejects.toThrow(DatabaseUnavailableError);
      await biz.close();
      await nowhere.destroy();
    });
  },
  ['mariadb', 'mysql', 'postgres'],
);

onEveryDatabase('a context that JSON changes', (suite) => {
  const dated = schemaOf<{ at: unknown }>((value) => ((value as { at: unknown })?.at instanceof Date ? undefined : 'must be a Date'));
  const coerced = schemaOf<{ at: unknown }>((value) =>
    Number.isNaN(new Date((value as { at: string }).at).getTime()) ? 'must be a time' : undefined,
  );
  const counted = schemaOf<{ n?: unknown }>((value) =>
    typeof (value as { n?: unknown }).n === 'object' && !((value as { n: unknown }).n instanceof Map) ? 'must be a number' : undefined,
  );

  it('is refused at submit if it does not fit any more, however it is submitted', async () => {
    const biz = suite.create({ dated: bizType(dated), coerced: bizType(coerced), counted: bizType(counted) });
    const at = new Date();
    await expect(biz.now().submit('dated', { at })).rejects.toThrow(/stored as JSON.*must be a Date/);
    await expect(biz.now().submitMany('dated', [{ at }])).rejects.toThrow(InvalidContextError);
    await expect(suite.db.knex.transaction((trx) => biz.in(trx).submit('dated', { at }))).rejects.toThrow(InvalidContextError);
    await expect(biz.fanOut('dated', [{ at }], { key: 'dated' })).rejects.toThrow(InvalidContextError);
    await expect(biz.now().submit('counted', { n: Number.NaN })).rejects.toThrow(InvalidContextError);
    await expect(biz.now().submit('counted', { n: new Map() })).rejects.toThrow(InvalidContextError);
    await biz.now().submit('coerced', { at });
    await biz.now().submit('counted', { n: undefined });
    await biz.now().submit('counted', {});
    expect(await biz.list({ kind: 'dated' })).toEqual([]);
  });
});

onEveryDatabase(
  'a call of its own transaction inside an open one',
  (suite) => {
    it('is refused at once, also in a nested one, and not elsewhere', async () => {
      const biz = suite.create({ inside: bizType(any) });
      const { knex } = suite.db;
      const calls = [
        () => biz.now().submit('inside', {}),
        () => biz.now().submit('inside', {}, { once: 'k' }),
        () => biz.now().submitMany('inside', [{}]),
        () => biz.fanOut('inside', [{}], { key: 'f' }),
      ];
      for (const call of calls) {
        await expect(knex.transaction(async () => void (await call()))).rejects.toThrow(/inside an open transaction.*in\(trx\)/);
        await expect(knex.transaction((trx) => trx.transaction(async () => void (await call())))).rejects.toThrow(InvalidArgumentError);
      }
      expect(await biz.list({ kind: 'inside' })).toEqual([]);
      // Another flow waits for its turn; what the callback leaves behind may submit when the transaction has ended.
      let release: () => void = () => undefined;
      const held = new Promise<void>((resolve) => (release = resolve));
      let later: Promise<unknown> | undefined;
      const transaction = knex.transaction(async (trx) => {
        await biz.in(trx).submit('inside', {});
        later = held.then(() => new Promise((resolve) => setImmediate(resolve))).then(() => biz.now().submit('inside', {}));
        await held;
      });
      const beside = biz.now().submit('inside', {});
      release();
      await transaction;
      await beside;
      await later;
      expect(await biz.list({ kind: 'inside' })).toHaveLength(3);
    });
  },
  ['sqlite'],
);
