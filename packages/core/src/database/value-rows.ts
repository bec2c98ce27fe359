import type { Database } from './database.ts';
import { type Values, type ValueTypes, valuesTable } from './values-table.ts';

/**
 * Makes a table `u` of plain values for an UPDATE of many rows: `valuesTable`, and on MySQL and MariaDB one tuple for each row.
 *
 * There JSON_TABLE writes a temporary table to disk. UPDATE of 1, 10, 100 and 1,000 rows with a text of 100 bytes, and of 50 rows with 20 kB, ms:
 * MySQL 9.7 JSON_TABLE 0.9 1.0 3.6 24 28, VALUES 0.8 0.9 3.0 19 16; MariaDB 10.11 JSON_TABLE 0.7 1.0 3.2 27 38, VALUES 0.8 1.0 2.3 16 16. Lost:
 * UNION ALL of SELECTs (MariaDB 1.0 to 1.6 times VALUES, the more the rows), and `CASE id WHEN …` per column, which is faster below 100 rows (0.2 0.5 1.8 18
 * 17; MySQL 0.8 0.8 3.3 31 15), but names each row once a column and can't be joined.
 */
export function valueRows(
  database: Database,
  types: ValueTypes,
  rows: readonly Values[],
): { readonly sql: string; readonly params: readonly unknown[] } {
  if (database.family !== 'mysql' || rows.length === 0) {
    const { sql, param } = valuesTable(database, types, rows);
    return { sql, params: [param] };
  }
  const columns = Object.entries(types);
  // A 64-bit id as text would be compared as a floating-point number.
  const params = rows.flatMap((row) =>
    columns.map(([name, type]) => {
      const value = row[name] ?? null;
      return value === null || type === 'text' ? value : BigInt(value);
    }),
  );
  const marks = columns.map(() => '?').join(', ');
  if (database.dialect === 'mysql')
    return { sql: `(VALUES ${rows.map(() => `ROW(${marks})`).join(', ')}) AS u (${columns.map(([name]) => name).join(', ')})`, params };
  // MariaDB names the columns of VALUES by the values of its first row.
  const first = `SELECT ${columns.map(([name]) => `? AS ${name}`).join(', ')}`;
  const others =
    rows.length === 1
      ? ''
      : ` UNION ALL VALUES ${Array(rows.length - 1)
          .fill(`(${marks})`)
          .join(', ')}`;
  return { sql: `(${first}${others}) AS u`, params };
}
