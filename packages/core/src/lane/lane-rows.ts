import type { Database } from '../database/database.ts';
import { columnBytes } from '../database/dialect-sql.ts';
import { idList } from '../work/row/id-list.ts';

/** The columns of every lane table. */
export interface LaneRow {
  /** A 64-bit number, as text. */
  readonly id: string;
  readonly lane: number;
}

/** A table whose rows wait in lanes. `(lane, id)` is its primary key, or the first columns of an index. */
export interface LaneTableShape {
  /** The name, without prefix and quotes. */
  readonly table: string;
  /** Columns to read besides `id` and `lane`. */
  readonly columns: readonly string[];
  /** Those of them that may be large. Their sizes are read first, so that no more is read than memory is to hold. */
  readonly large?: readonly string[];
}

/** A row that waits, and the bytes of its large columns. */
export interface SizedLaneRow extends LaneRow {
  readonly bytes: number | string;
}

/** The position in a lane after which reading continues. */
export interface LaneCursor {
  readonly lane: number;
  readonly afterId: string;
}

/** Memory of a row besides its large columns. */
export const rowOverheadBytes = 200;

/**
 * Reads the next committed rows of several lanes in one statement, by id within each lane, at most `limit` of each lane. Takes no lock. On
 * Postgres, `laneBytes` bounds the bytes of each lane: its rows end with the one that reaches the bound, and `found` says how many
 * there were.
 *
 * Postgres: one LATERAL step per lane over the primary key; a plain `lane = ANY(…) ORDER BY id` sorts all rows that wait. The other
 * databases: one UNION ALL over the lanes. SQLite needs each part in a derived table, because of its LIMIT. MySQL and MariaDB would write
 * each derived table to a temporary table first, on disk because of the bodies: 370,000 rows/s without, 100,000 with (MariaDB 10.11, 32
 * lanes of 125 rows; and the server crashed once, as it dropped such a table). So they can't bound the bytes: see `readLaneSizes`.
 */
export function readLanes<Row extends LaneRow>(
  database: Database,
  shape: LaneTableShape,
  cursors: readonly LaneCursor[],
  limit: number,
  laneBytes?: number,
): Promise<Row[]> {
  const table = database.table(shape.table);
  const columns = [`${database.text('id')} AS id`, 'lane', ...shape.columns].join(', ');
  if (database.family === 'postgres') {
    const from = `FROM ${table} t WHERE t.lane = c.lane AND t.id > c.after_id ORDER BY t.id LIMIT ${limit}`;
    const lanes = [`{${cursors.map(({ lane }) => lane).join(',')}}`, `{${cursors.map(({ afterId }) => afterId).join(',')}}`];
    const each = 'FROM unnest(?::integer[], ?::bigint[]) AS c(lane, after_id) CROSS JOIN LATERAL';
    if (laneBytes === undefined) return database.rows<Row>(`SELECT r.* ${each} (SELECT ${columns} ${from}) r`, lanes);
    const bytes = `${columnBytes(database, shape.large ?? [])} + ${rowOverheadBytes}`;
    const names = ['id', 'lane', ...shape.columns].map((name) => `r.${name}`).join(', ');
    return database.rows<Row>(
      `SELECT ${names}, r.found ${each} (SELECT *, sum(row_bytes) OVER (ORDER BY row_id) - row_bytes AS bytes_before, count(*) OVER () AS found FROM (SELECT ${columns}, t.id AS row_id, ${bytes} AS row_bytes ${from}) a) r WHERE r.bytes_before < ?`,
      [...lanes, laneBytes],
    );
  }
  const one = cursors.map(({ lane, afterId }) => {
    const read = `SELECT ${columns} FROM ${table} t WHERE t.lane = ${lane} AND t.id > ${BigInt(afterId)} ORDER BY t.id LIMIT ${limit}`;
    return database.family === 'mysql' ? `(${read})` : `SELECT * FROM (${read}) r`;
  });
  return database.rows<Row>(one.join(' UNION ALL '));
}

/** As {@link readLanes}, but the sizes of the rows in place of their columns. It does not read large values, which lie apart. */
export function readLaneSizes(
  database: Database,
  shape: LaneTableShape,
  cursors: readonly LaneCursor[],
  limit: number,
): Promise<SizedLaneRow[]> {
  return readLanes<SizedLaneRow>(
    database,
    { table: shape.table, columns: [`${columnBytes(database, shape.large ?? [])} AS bytes`] },
    cursors,
    limit,
  );
}

/** Reads rows by their lanes and ids, in the order given. Rows that have gone are left out. */
export async function readLaneRows<Row extends LaneRow>(
  database: Database,
  shape: LaneTableShape,
  rows: readonly LaneRow[],
): Promise<Row[]> {
  if (rows.length === 0) return [];
  const { sql, params } = laneRowsWhere(database, rows);
  const columns = [`${database.text('id')} AS id`, 'lane', ...shape.columns].join(', ');
  // Not sorted by the server, which would write the bodies to a temporary file.
  const found = await database.rows<Row>(`SELECT ${columns} FROM ${database.table(shape.table)} t WHERE ${sql}`, params);
  const byId = new Map(found.map((row) => [row.id, row]));
  return rows.flatMap(({ id }) => byId.get(id) ?? []);
}

/** A condition on the alias `t` that picks rows by their lanes and ids, in the cheapest form of each database. */
export function laneRowsWhere(database: Database, rows: readonly LaneRow[]): { readonly sql: string; readonly params: readonly unknown[] } {
  if (database.family === 'postgres') {
    // Lane and id together are the primary key, and its only index.
    return {
      sql: '(t.lane, t.id) IN (SELECT * FROM unnest(?::integer[], ?::bigint[]))',
      params: [`{${rows.map(({ lane }) => lane).join(',')}}`, `{${rows.map(({ id }) => BigInt(id)).join(',')}}`],
    };
  }
  const { sql, params } = idList(
    database.family,
    rows.map(({ id }) => id),
  );
  return { sql: `t.${sql}`, params };
}

/** Deletes rows by their lanes and ids, in one statement. */
export async function deleteLaneRows(
  runner: Pick<Database, 'run'>,
  database: Database,
  table: string,
  rows: readonly LaneRow[],
): Promise<number> {
  const { sql, params } = laneRowsWhere(database, rows);
  const name = database.table(table);
  return runner.run(database.family === 'mysql' ? `DELETE t FROM ${name} t WHERE ${sql}` : `DELETE FROM ${name} AS t WHERE ${sql}`, params);
}
