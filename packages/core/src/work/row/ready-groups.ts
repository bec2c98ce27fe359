import { type GroupFloor, probesAround } from './floor-probes.ts';
import type { TableSql } from './table-sql.ts';

/** A kind and group with rows that can be claimed. */
export interface ReadyGroup {
  readonly kind: string;
  readonly group: string;
  /** The least and the most starts in a row that its rows have lost. Above 0, the rows are of any group, and `group` is empty. */
  readonly lost: { readonly least: number; readonly most: number };
  /** The rank of its first row. */
  readonly rank: number;
  /** How long its first row has been READY, in ms. */
  readonly lagMs: number;
  /** The time of the database's clock, in ms. */
  readonly nowMs: number;
}

interface GroupRecord {
  readonly kind: string;
  readonly grp: string;
  readonly least: number;
  readonly most: number;
  readonly first_rank: string | number;
  readonly lag_ms: string | number;
  readonly now_ms: string | number;
}

/** The part of a table that `readyGroups` reads. */
export interface ReadyQuery {
  /** Groups of each kind at most. Default 1,000. Each kind has its own share, however many groups the kinds before it have. */
  readonly groupsPerKind?: number;
  /** The group to begin with, by kind, in the order of their names. Default: the first. */
  readonly from?: ReadonlyMap<string, string>;
  /** Looks at these groups from their floors on, and at one other group before, between and after them; at all others not. */
  readonly floors?: readonly GroupFloor[];
  /** With `floors`: kinds without a floor whose rows stay READY. The look also finds what is behind each. */
  readonly standing?: readonly string[];
}

/**
 * Finds the pairs of kind and group that have READY rows. It is a loose scan over the READY index: a few probes per pair, however many rows
 * each pair has. With `floors`, it looks for rows of these groups from their floors on, and for one other group before, between and after
 * them: so it does not pass the rows that have been claimed, of which the index still has entries if an old snapshot is held.
 */
export async function readyGroups(
  work: TableSql,
  { groupsPerKind = 1_000, from = new Map(), floors = [], standing = [] }: ReadyQuery = {},
): Promise<ReadyGroup[]> {
  const { kind, group } = work.shape.columns;
  const { database, table } = work;
  const limit = Math.max(1, Math.trunc(groupsPerKind));
  const ready = `status = ${work.state('ready')} AND lost`;
  const suspects = `SELECT ${kind} AS kind, '' AS grp, min(lost) AS least, max(lost) AS most, 0 AS first_rank, 0 AS lag_ms, {now} AS now_ms FROM ${table} WHERE ${ready} > 0 GROUP BY ${kind}`;
  const lag = `{now} - (claim_rank + COALESCE(priority, 0) * ${work.shape.agingStepMs})`;
  const firstOf = (hint: string): string =>
    `SELECT ${kind} AS kind, ${group} AS grp, claim_rank AS first_rank, ${lag} AS lag_ms, 0 AS least, 0 AS most, {now} AS now_ms FROM ${table}${hint} WHERE ${ready} = 0`;
  const first = firstOf('');
  // A table without groups has one column for both. If the column were named twice, SQLite would sort all rows.
  const order = `ORDER BY ${[...new Set([kind, group])].join(', ')}, claim_rank LIMIT 1`;
  let records: readonly GroupRecord[];
  if (floors.length > 0) {
    const probes = probesAround(floors, kind, group, standing);
    const one = probes.map((probe) => `${firstOf(work.readyHint)} AND ${probe.where} ORDER BY ${probe.order} LIMIT 1`);
    // SQLite needs each part in a derived table, because of its LIMIT.
    const parts = one.map((part) => (database.family === 'sqlite' ? `SELECT * FROM (${part})` : `(${part})`));
    records = await database.use(async (sql) => {
      const found = await sql.rows<GroupRecord>(
        parts.join(' UNION ALL '),
        probes.flatMap(({ params }) => params),
      );
      return [...found, ...(await sql.rows<GroupRecord>(suspects))];
    });
  } else if (database.family === 'postgres') {
    const columns = 'kind, grp, first_rank, lag_ms, least, most, now_ms';
    // The first row of each kind, and from it on the first rows of its groups.
    const every = `WITH RECURSIVE k AS ((${first} ${order}) UNION ALL SELECT n.* FROM k CROSS JOIN LATERAL (${first} AND ${kind} > k.kind ${order}) n)
      (SELECT p.kind, p.grp, p.least, p.most, p.first_rank, p.lag_ms, p.now_ms FROM k LEFT JOIN jsonb_each_text(?::jsonb) f (kind, grp) ON f.kind = k.kind
        CROSS JOIN LATERAL (
          WITH RECURSIVE g (${columns}) AS (
            (SELECT k.* WHERE k.grp >= COALESCE(f.grp, '') UNION ALL (${first} AND ${kind} = k.kind AND ${group} >= f.grp AND k.grp < f.grp ${order})) UNION ALL
            SELECT n.* FROM g CROSS JOIN LATERAL (${first} AND ${kind} = g.kind AND ${group} > g.grp ${order}) n
          ) SELECT * FROM g LIMIT ${limit}
        ) p) UNION ALL (${suspects})`;
    records = await database.transaction(async (sql) => {
      // The planner expects so many groups that it would compile the statement, for 50 ms.
      await sql.run('SET LOCAL jit = off');
      return sql.rows<GroupRecord>(every, [JSON.stringify(Object.fromEntries(from))]);
    });
  } else {
    // These databases have no lateral join, or can't use an index for a row comparison: one probe per pair, and one more at the end of each
    // kind. One condition with OR was rejected: SQLite then reads every READY row of the pair before (80 to 115 ms for a million, at each poll).
    records = await database.use(async (sql) => {
      const found: GroupRecord[] = [];
      const probe = async (condition: string, params: readonly unknown[]): Promise<GroupRecord | undefined> => {
        const [record] = await sql.rows<GroupRecord>(`${first}${condition} ${order}`, params);
        return record;
      };
      for (let head = await probe('', []); head; head = await probe(` AND ${kind} > ?`, [head.kind])) {
        const begin = from.get(head.kind) ?? '';
        let record: GroupRecord | undefined = head;
        if (head.grp < begin) record = await probe(` AND ${kind} = ? AND ${group} >= ?`, [head.kind, begin]);
        for (let n = 1; record; n++) {
          found.push(record);
          if (n === limit || kind === group) break;
          record = await probe(` AND ${kind} = ? AND ${group} > ?`, [record.kind, record.grp]);
        }
      }
      return [...found, ...(await sql.rows<GroupRecord>(suspects))];
    });
  }
  return records.map(({ kind: name, grp, least, most, first_rank: rank, lag_ms: ms, now_ms: now }) => ({
    kind: name,
    group: grp,
    rank: Number(rank),
    lost: { least: Number(least), most: Number(most) },
    lagMs: Math.max(0, Number(ms)),
    nowMs: Number(now),
  }));
}
