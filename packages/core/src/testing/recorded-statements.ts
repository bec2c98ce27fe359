import knexFactory, { type Knex } from 'knex';

/** A statement with its parameters, as it was sent to the server. */
export interface SentStatement {
  readonly sql: string;
  readonly values: readonly unknown[];
}

/** The result of {@link recordStatements}. */
export interface StatementRecorder {
  /** Run the statements on it, and destroy it afterwards. */
  readonly knex: Knex;
  /** The statements sent since the last call. */
  take(): SentStatement[];
}

type Query = (config: string | { readonly text: string; readonly values?: readonly unknown[] }, ...rest: unknown[]) => unknown;

/** Opens a knex on a test database of Postgres that records each statement on its connections, those of Holdfast included. */
export function recordStatements(address: string): StatementRecorder {
  let sent: SentStatement[] = [];
  const url = new URL(address);
  const schema = url.searchParams.get('schema') ?? 'public';
  url.search = `application_name=${schema}`;
  const afterCreate = (connection: { query: Query }, done: (error: null) => void): void => {
    const { query } = connection;
    connection.query = function (this: unknown, config, ...rest) {
      const given = typeof config === 'string' ? { text: config } : config;
      sent.push({ sql: given.text, values: given.values ?? (Array.isArray(rest[0]) ? rest[0] : []) });
      return query.call(this, config, ...rest);
    };
    done(null);
  };
  const knex = knexFactory({ client: 'pg', connection: url.href, searchPath: [schema], pool: { min: 0, max: 10, afterCreate } });
  return {
    knex,
    take() {
      const taken = sent;
      sent = [];
      return taken;
    },
  };
}

/** The tables that Postgres reads from end to end for a statement, by its plan. */
export async function tablesRead(knex: Knex, { sql, values }: SentStatement): Promise<readonly string[]> {
  const connection = await knex.client.acquireConnection();
  try {
    const { rows } = await connection.query(`EXPLAIN (FORMAT JSON) ${sql}`, [...values]);
    return readWhole(rows[0]['QUERY PLAN'][0].Plan);
  } finally {
    await knex.client.releaseConnection(connection);
  }
}

interface PlanNode {
  readonly 'Node Type': string;
  readonly 'Relation Name'?: string;
  readonly 'Index Cond'?: string;
  readonly Plans?: readonly PlanNode[];
}

function readWhole(node: PlanNode): string[] {
  const own = node['Node Type'] === 'Seq Scan' ? [node['Relation Name'] ?? ''] : [];
  return [...own, ...(node.Plans ?? []).flatMap(readWhole)];
}
