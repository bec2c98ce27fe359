import { describe, expect, it } from 'vitest';
import { mysqlText as textOf } from './mysql-text.ts';

const mysqlText = (sql: string, values: readonly unknown[]): string => textOf(sql, values, 'unknown', (time) => `'${time.toISOString()}'`);

describe('the text of a statement for MySQL', () => {
  it('writes each value so that every sql_mode reads it in the same way', () => {
    expect(mysqlText('SELECT ?, ?, ?, ?, ?, ?', ["it's", 9_007_199_254_740_993n, null, undefined, true, -1.5])).toBe(
      "SELECT 'it''s', 9007199254740993, NULL, NULL, true, -1.5",
    );
    expect(mysqlText('SELECT ?', ['a\\'])).toBe("SELECT _utf8mb4 X'615c'");
    expect(textOf('SELECT ?', ["a\\'"], 'escapes', String)).toBe("SELECT 'a\\\\'''");
    expect(mysqlText('SELECT ?', [new Uint8Array([0, 255])])).toBe("SELECT X'00ff'");
    expect(mysqlText('SELECT ?', [new Date(0)])).toBe("SELECT '1970-01-01T00:00:00.000Z'");
    expect(mysqlText('SELECT ?', ['where?'])).toBe("SELECT 'where?'");
  });

  it('refuses a value that has no literal, and a wrong number of values', () => {
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, {}, [], Symbol('s'), () => 1])
      expect(() => mysqlText('SELECT ?', [value])).toThrow(/has no literal/);
    expect(() => mysqlText('SELECT ?', [1, 2])).toThrow('2 values for 1 marks in: SELECT ?');
  });
});
