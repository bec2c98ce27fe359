import { chmodSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { openSqlite } from './open-sqlite.ts';

it('a new database file and its journal are readable by this user only; one that exists keeps its mode', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-mode-'));
  const file = join(folder, 'app.db');
  const modes = () => ['', '-wal', '-shm'].map((end) => (statSync(`${file}${end}`).mode & 0o777).toString(8));
  const knex = openSqlite(file);
  await knex.raw('CREATE TABLE t (a)');
  expect(modes()).toEqual(['600', '600', '600']);
  await knex.destroy();
  chmodSync(file, 0o640);
  const again = openSqlite(file);
  await again.raw('INSERT INTO t VALUES (1)');
  expect(modes()[0]).toBe('640');
  await again.destroy();
  rmSync(folder, { recursive: true });
});
