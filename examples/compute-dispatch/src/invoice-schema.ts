import { type Database, keepTrailingSpaces, type Schema, SchemaWriter } from '@holdfast/core';

/** The number of tables in each of the two databases. */
export const tablesPerDatabase = 4;

/** The tables of invoices in one of the two databases. */
export const invoiceSchema: Schema = {
  name: 'dispatch-service-invoices',
  migrations: [
    { name: '0001_create', statements: createTables },
    {
      name: '0002_trailing_spaces',
      statements: (database, sql) =>
        keepTrailingSpaces(
          database,
          sql,
          Array.from({ length: tablesPerDatabase }, (_, table) => `invoice_00${table}`),
        ),
    },
  ],
};

function createTables(database: Database): readonly string[] {
  const ddl = new SchemaWriter(database);
  for (let table = 0; table < tablesPerDatabase; table++)
    ddl.table(
      `invoice_00${table}`,
      'id VARCHAR(40) NOT NULL PRIMARY KEY, tenant VARCHAR(60) NOT NULL, apply_id VARCHAR(20) NOT NULL, machine_id VARCHAR(40) NOT NULL, package_id VARCHAR(40) NOT NULL, kind VARCHAR(10) NOT NULL, from_ms BIGINT NOT NULL, to_ms BIGINT NOT NULL, ms BIGINT NOT NULL, price_version INTEGER NOT NULL, amount_cents INTEGER NOT NULL, mq_state INTEGER NOT NULL, created_ms BIGINT NOT NULL',
    );
  return ddl.statements;
}
