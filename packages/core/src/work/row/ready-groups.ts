import type { SqlRunner } from '../../database/sql-runner.ts';
import type { TableSql } from './table-sql.ts';

/** A kind and group with rows that can be claimed. */
export interface ReadyGroup {
  readonly kind: string;
  readonly group: string;
  /** The least and the most starts in a row that its rows have lost. Above 0, the rows are of any group, and `group` is empty. */
  readonly lost: { readonly least: number; readonly most: number };
  /** How long its first row has been READY, in ms. */
  readonly lagMs: number;
}

interface GroupRecord {
  readonly kind: string;
  readonly grp: string;
  readonly least: number;
  readonly most: number;
  readonly lag_ms: string | number;
}

/**
 * Finds the pairs of kind and group that have READY rows. It is a loose scan over the READY index: a few probes per pair, however many rows
 * each pair has.
 */
export async function readyGroups(work: TableSql, limit: number): Promise<ReadyGroup[]> {
  const { kind, group } = work.shape.columns;
  const { database, table } = work;
  const where = `status = ${work.state('ready')} AND lost = 0`;
  const suspects = `SELECT ${kind} AS kind, '' AS grp, min(lost) AS least, max(lost) AS most, 0 AS lag_ms FROM ${table} WHERE status = ${work.state('ready')} AND lost > 0 GROUP BY ${kind}`;
  const lag = `{now} - (claim_rank + COALESCE(priority, 0) * ${work.shape.agingStepMs})`;
  const first = `SELECT ${kind} AS kind, ${group} AS grp, ${lag} AS lag_ms FROM ${table} WHERE ${where}`;
  // A table without groups has one column for both. If the column were named twice, SQLite would sort all rows.
  const order = `ORDER BY ${[...new Set([kind, group])].join(', ')}, claim_rank LIMIT 1`;
  let records: readonly GroupRecord[];
  if (database.family === 'postgres') {
    records = await database.rows(
      `WITH RECURSIVE g AS ((${first} ${order}) UNION ALL
        SELECT n.kind, n.grp, n.lag_ms FROM g CROSS JOIN LATERAL (${first} AND (${kind}, ${group}) > (g.kind, g.grp) ${order}) n
      ) (SELECT kind, grp, 0 AS least, 0 AS most, lag_ms FROM g LIMIT ${limit}) UNION ALL (${suspects})`,
    );
  } else {
    // These databases have no lateral join, or can't use an index for a row comparison: one probe per pair, and one more at the end of each
    // kind. One condition with OR was rejected: SQLite then reads every READY row of the pair before (80 to 115 ms for a million, at each poll).
    const probe = async (sql: SqlRunner, last: GroupRecord | undefined): Promise<Omit<GroupRecord, 'least' | 'most'> | undefined> => {
      if (last && kind !== group) {
        const [next] = await sql.rows<GroupRecord>(`${first} AND ${kind} = ? AND ${group} > ? ${order}`, [last.kind, last.grp]);
        if (next) return next;
      }
      return (await sql.rows<GroupRecord>(`${first}${last ? ` AND ${kind} > ?` : ''} ${order}`, last ? [last.kind] : []))[0];
    };
    records = await database.use(async (sql) => {
      const found: GroupRecord[] = [];
      for (let last: GroupRecord | undefined; found.length < limit; ) {
        const record = await probe(sql, last);
        if (!record) break;
        last = { ...record, least: 0, most: 0 };
        found.push(last);
      }
      return [...found, ...(await sql.rows<GroupRecord>(suspects))];
    });
  }
  return records.map(({ kind: name, grp, least, most, lag_ms: ms }) => ({
    kind: name,
    group: grp,
    lost: { least: Number(least), most: Number(most) },
    lagMs: Math.max(0, Number(ms)),
  }));
}
