import knexFactory, { type Knex } from 'knex';

/** The plan of MySQL or MariaDB for one statement. */
export interface RecordedPlan {
  readonly sql: string;
  /** Tables that are read whole, or by a whole index. */
  readonly walked: readonly string[];
  /** Tables whose rows are sorted. */
  readonly sorted: readonly string[];
  /** The most rows that the server expects to read of one table. */
  readonly rows: number;
}

/** The result of {@link recordPlans}. */
export interface PlanRecorder {
  /** Run the statements on it, and destroy it afterwards. */
  readonly knex: Knex;
  /** The plans of the recorded statements that name the table. */
  plans(table: string): Promise<readonly RecordedPlan[]>;
}

type Query = (options: string | { sql: string }, ...rest: unknown[]) => unknown;

/**
 * Opens a knex on a test database of MySQL or MariaDB that records every statement on its connections, those of Holdfast included. `plans`
 * asks the server for the plans of the statements that name a table, for its present rows.
 */
export function recordPlans(address: string): PlanRecorder {
  const statements = new Map<string, string>();
  const afterCreate = (connection: { query: Query }, done: (error: null) => void): void => {
    const { query } = connection;
    connection.query = function (this: unknown, options, ...rest) {
      const sql = typeof options === 'string' ? options : options.sql;
      // Statements that differ only in values and lists of ids are recorded once.
      statements.set(sql.replaceAll(/'[^']*'|\d+(, ?\d+)*/g, '?').replaceAll(/\(\?\)(, \(\?\))+/g, '(?)'), sql);
      return query.call(this, options, ...rest);
    };
    done(null);
  };
  const knex = knexFactory({ client: 'mysql2', connection: address, pool: { min: 0, max: 4, afterCreate } });
  return {
    knex,
    async plans(table) {
      const recorded = [...statements.values()].filter(
        (sql) => new RegExp(`\\b${table}\\b`).test(sql) && /^\s*(SELECT|UPDATE|DELETE|\(SELECT)/i.test(sql) && !sql.includes('?'),
      );
      const asking = knexFactory({ client: 'mysql2', connection: address, pool: { min: 0, max: 1 } });
      try {
        const plans: RecordedPlan[] = [];
        for (const sql of recorded) plans.push(planOf(sql, await explain(asking, sql)));
        return plans;
      } finally {
        await asking.destroy();
      }
    },
  };
}

interface Step {
  readonly table: string | null;
  readonly type: string | null;
  readonly rows: number | string | null;
  readonly Extra: string | null;
}

async function explain(knex: Knex, sql: string): Promise<readonly Step[]> {
  const [mysql] = (await knex.raw('SELECT VERSION() AS version'))[0] as { version: string }[];
  // MySQL 9 explains as a tree by default.
  const [rows] = await knex.raw(`EXPLAIN ${/mariadb/i.test(mysql?.version ?? '') ? '' : 'FORMAT = TRADITIONAL '}${sql}`);
  return rows as Step[];
}

function planOf(sql: string, steps: readonly Step[]): RecordedPlan {
  const names = (some: readonly Step[]): string[] =>
    some.map(({ table }) => table ?? '').filter((name) => name !== '' && !name.startsWith('<'));
  return {
    sql,
    walked: names(steps.filter(({ type }) => type === 'ALL' || type === 'index')),
    sorted: names(steps.filter(({ Extra }) => /filesort/.test(Extra ?? ''))),
    rows: Math.max(0, ...steps.map(({ rows }) => Number(rows ?? 0))),
  };
}
