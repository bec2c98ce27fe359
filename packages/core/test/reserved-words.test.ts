import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { testDialects } from '@holdfast/core/testing';
import { describe, expect, it } from 'vitest';
import { reservedWords } from './reserved-words.ts';

const root = join(import.meta.dirname, '..', '..', '..');
/** Values that are in lower case, too. */
const values = new Set(['true', 'false', 'null']);
const reserved = new Set(Object.values(reservedWords).flatMap((words) => [...words].filter((word) => !values.has(word))));

/** In our SQL, keywords are in capitals and identifiers are not. A quoted identifier may be any word. */
function bareIdentifiers(sql: string): string[] {
  const bare = sql
    .replaceAll(/'[^']*'|"[^"]*"|`[^`]*`/g, ' x ')
    // Removes Postgres types, and functions.
    .replaceAll(/::\s*[a-z ]+(\[\])?|\b[a-z_]+\(/g, ' x ');
  return bare.match(/\b[a-z][a-z0-9_]*\b/g) ?? [];
}

function isSql(text: string): boolean {
  const prose = /\b[a-z]+ [a-z]+ [a-z]+ [a-z]+\b/.test(text.replaceAll(/'[^']*'/g, ''));
  return !prose && /\b(SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|FROM|WHERE|JOIN|ORDER BY|NOT NULL|NULL|AS [a-z])\b/.test(text);
}

/** All quoted texts. An expression in a template is replaced by `x`, and the texts in it are listed separately. */
function literals(source: string): string[] {
  const found: string[] = [];
  let at = 0;
  const code = (end: string): void => {
    for (let depth = 0; at < source.length; at++) {
      const c = source[at] ?? '';
      if (c === end && depth === 0) return;
      if (c === '{') depth += 1;
      else if (c === '}') depth -= 1;
      else if (c === '`' || c === "'" || c === '"') text(c);
    }
  };
  const text = (quote: string): void => {
    let literal = '';
    for (at++; at < source.length && source[at] !== quote; at++) {
      if (source[at] === '\\') literal += source[++at];
      else if (quote === '`' && source.startsWith('${', at)) {
        at += 2;
        code('}');
        literal += 'x';
      } else literal += source[at];
    }
    found.push(literal);
  };
  code('');
  return found;
}

function sources(): string[] {
  return ['packages', 'examples'].flatMap((folder) =>
    readdirSync(join(root, folder)).flatMap((name) =>
      readdirSync(join(root, folder, name, 'src'), { recursive: true, encoding: 'utf8' })
        .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))
        .map((file) => join(root, folder, name, 'src', file)),
    ),
  );
}

describe('identifiers in our SQL', () => {
  it('are quoted if they are a reserved word of any database', () => {
    const found: string[] = [];
    let looked = 0;
    for (const file of sources()) {
      const text = readFileSync(file, 'utf8').replaceAll(
        /^\s*(\/\/|\*|\/\*).*$|\/\*\*?.*?\*\/|\/(?:[^/\\\n]|\\.)*['"`](?:[^/\\\n]|\\.)*\/[gimsu]*(?=[,.)])/gm,
        '',
      );
      for (const sql of literals(text).filter(isSql))
        for (const word of bareIdentifiers(sql)) {
          looked += 1;
          if (reserved.has(word)) found.push(`${relative(root, file)}: ${word} in ${sql.trim().slice(0, 80)}`);
        }
    }
    expect(looked).toBeGreaterThan(2_000);
    expect(found).toEqual([]);
  });

  it('are detected: an alias that MySQL 8 has reserved, a column, a table', () => {
    for (const [sql, word] of [
      ["SELECT 0 AS lag FROM compensate_biz WHERE status = 'READY'", 'lag'],
      ['CREATE TABLE member (id BIGINT NOT NULL, groups INTEGER NULL)', 'groups'],
      ['SELECT id FROM `window` w WHERE w.rank = 1', 'rank'],
    ] as const) {
      expect(isSql(sql)).toBe(true);
      expect(bareIdentifiers(sql).filter((name) => reserved.has(name))).toEqual([word]);
    }
  });
});

describe.each(testDialects())('reserved words of $name', (dialect) => {
  it('of the servers are all in the list', async () => {
    const db = await dialect.create();
    try {
      const known = reservedWords[dialect.name];
      let own: string[];
      if (dialect.name === 'postgres') {
        const { rows } = await db.knex.raw("SELECT word FROM pg_get_keywords() WHERE catcode IN ('R', 'T')");
        own = rows.map(({ word }: { word: string }) => word);
      } else if (dialect.name === 'mysql') {
        const [rows] = await db.knex.raw('SELECT word AS word FROM information_schema.keywords WHERE reserved = 1');
        own = rows.map(({ word }: { word: string }) => word);
      } else {
        const tried =
          dialect.name === 'sqlite'
            ? [...reserved]
            : (await db.knex.raw('SELECT word AS word FROM information_schema.keywords'))[0].map(({ word }: { word: string }) => word);
        own = [];
        for (const word of tried.filter((one: string) => /^[a-z_]+$/i.test(one)))
          await db.knex
            .raw(`SELECT ${word} AS ${word} FROM (SELECT 1 AS "${word}") t`.replaceAll('"', dialect.name === 'sqlite' ? '"' : '`'))
            .catch(() => own.push(word));
      }
      expect(own.length).toBeGreaterThan(30);
      expect(own.map((word) => word.toLowerCase()).filter((word) => !known.has(word))).toEqual([]);
    } finally {
      await db.drop();
    }
  });
});
