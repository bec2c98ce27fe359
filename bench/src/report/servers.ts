import { describeDatabase } from '@holdfast/core';
import { testDialects } from '@holdfast/core/testing';
import type { Line } from './results.ts';

const names = { sqlite: 'SQLite', postgres: 'PostgreSQL', mysql: 'MySQL', mariadb: 'MariaDB' } as const;

/** The names and versions of the databases that a bench's lines name, such as `PostgreSQL 15.18, MySQL 9.7.4`. */
export async function databaseVersions(lines: readonly Line[]): Promise<string> {
  const found: string[] = [];
  for (const dialect of testDialects()) {
    if (!lines.some(({ bench }) => bench.includes(dialect.name))) continue;
    const db = await dialect.create();
    try {
      const { version } = await describeDatabase(db.knex);
      found.push(`${names[dialect.name]} ${/^[\d.]+/.exec(version)?.[0] ?? version}`);
    } finally {
      await db.drop();
    }
  }
  return found.join(', ');
}
