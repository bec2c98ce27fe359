import { expect, it } from 'vitest';
import { watchfulLogger } from '../src/testing/index.ts';
import { onEveryDatabase } from './suite.ts';

onEveryDatabase('the logger of the suites', (suite) => {
  it.each([
    ['a table that does not exist', 'SELECT * FROM there_is_none'],
    ['a column that does not exist', 'SELECT there_is_none FROM holdfast_once'],
    ['a syntax error', 'SELEC 1'],
  ])('remembers that the database refused %s', async (_name, sql) => {
    const logger = watchfulLogger();
    const err = await suite.database.rows(sql).catch((error: unknown) => error);
    logger.warn({ err }, 'a loop failed; retrying');
    logger.debug({ err: new Error('outer', { cause: err }) }, 'a claim failed; retrying');
    expect(logger.refusals).toHaveLength(2);
  });

  it('remembers no failure of another kind', () => {
    const logger = watchfulLogger();
    for (const err of [new Error('connect ECONNREFUSED'), Object.assign(new Error('deadlock'), { code: '40P01', errno: 1213 }), undefined])
      logger.warn({ err }, 'a loop failed; retrying');
    expect(logger.refusals).toEqual([]);
  });
});

onEveryDatabase(
  'the logger of the suites',
  (suite) => {
    it('remembers a fraction that was compared with a 64-bit number', async () => {
      const logger = watchfulLogger();
      const err = await suite.database.rows('SELECT 1 FROM holdfast_once WHERE expires_at >= ?', [0.5]).catch((error: unknown) => error);
      logger.warn({ err }, 'a loop failed; retrying');
      expect(logger.refusals).toHaveLength(1);
    });
  },
  ['postgres'],
);
