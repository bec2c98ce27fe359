import { type Database, type Executor, type Schema, SchemaWriter, tableColumns } from '@holdfast/core';

/** Tables of the service. `active` is 1 or NULL, so that a unique rule holds among active leases only, on every database. */
export const dispatchSchema: Schema = {
  name: 'compute-dispatch',
  migrations: [
    { name: '0001_create', statements: create },
    { name: '0002_messages', statements: messages },
    { name: '0003_callbacks', statements: callbacks },
    { name: '0004_billing', statements: billing },
  ],
};

function create(database: Database): readonly string[] {
  const end = database.family === 'mysql' ? ' ENGINE=InnoDB DEFAULT CHARSET=utf8mb4' : '';
  const table = (name: string, columns: string): string => `CREATE TABLE IF NOT EXISTS ${database.table(name)} (${columns})${end}`;
  return [
    table(
      'dispatch_machine',
      "id VARCHAR(40) NOT NULL PRIMARY KEY, room VARCHAR(40) NOT NULL, ip VARCHAR(45) NOT NULL, package_id VARCHAR(40) NOT NULL, state VARCHAR(12) NOT NULL DEFAULT 'FREE'",
    ),
    table(
      'dispatch_batch',
      'id VARCHAR(20) NOT NULL PRIMARY KEY, tenant VARCHAR(60) NOT NULL, business_order_no VARCHAR(100) NOT NULL, fingerprint CHAR(64) NOT NULL, package_id VARCHAR(40) NOT NULL, wanted INTEGER NOT NULL, minimum INTEGER NOT NULL, state VARCHAR(12) NOT NULL, deadline_ms BIGINT NULL, created_ms BIGINT NOT NULL, finished_ms BIGINT NULL, UNIQUE (tenant, business_order_no)',
    ),
    table(
      'dispatch_slot',
      'apply_id VARCHAR(20) NOT NULL PRIMARY KEY, batch_id VARCHAR(20) NOT NULL, state VARCHAR(12) NOT NULL, machine_id VARCHAR(40) NULL, granted_ms BIGINT NULL',
    ),
    table(
      'dispatch_lease',
      'apply_id VARCHAR(20) NOT NULL, machine_id VARCHAR(40) NOT NULL, room VARCHAR(40) NOT NULL, ip VARCHAR(45) NOT NULL, active INTEGER NULL, granted_ms BIGINT NOT NULL, UNIQUE (machine_id, active), UNIQUE (room, ip, active), UNIQUE (apply_id, active)',
    ),
    ...(database.family === 'mysql'
      ? [`CREATE INDEX dispatch_slot_batch ON ${database.table('dispatch_slot')} (batch_id, state)`]
      : [
          `CREATE INDEX IF NOT EXISTS dispatch_slot_batch ON ${database.table('dispatch_slot')} (batch_id, state)`,
          `CREATE INDEX IF NOT EXISTS dispatch_machine_state ON ${database.table('dispatch_machine')} (package_id, state)`,
        ]),
  ];
}

/** What the room says of its machines, what it comes to, and the asset service's own list. */
async function messages(database: Database, look: Executor): Promise<readonly string[]> {
  const end = database.family === 'mysql' ? ' ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin' : '';
  const table = (name: string, columns: string): string => `CREATE TABLE IF NOT EXISTS ${database.table(name)} (${columns})${end}`;
  const slot = await tableColumns(database, look, 'dispatch_slot');
  return [
    ...(slot.has('power') ? [] : [`ALTER TABLE ${database.table('dispatch_slot')} ADD COLUMN power VARCHAR(3) NULL`]),
    table(
      'dispatch_power_event',
      'id VARCHAR(191) NOT NULL PRIMARY KEY, apply_id VARCHAR(20) NOT NULL, machine_id VARCHAR(40) NOT NULL, power VARCHAR(3) NOT NULL, occurred_ms BIGINT NOT NULL, sequence BIGINT NOT NULL',
    ),
    `CREATE INDEX ${database.family === 'mysql' && database.dialect !== 'mariadb' ? '' : 'IF NOT EXISTS '}dispatch_power_event_slot ON ${database.table('dispatch_power_event')} (apply_id, machine_id, occurred_ms)`,
    table(
      'dispatch_timeline',
      'message_id VARCHAR(191) NOT NULL PRIMARY KEY, batch_id VARCHAR(20) NOT NULL, subject VARCHAR(20) NOT NULL, what VARCHAR(12) NOT NULL, at_ms BIGINT NOT NULL',
    ),
    `CREATE INDEX ${database.family === 'mysql' && database.dialect !== 'mariadb' ? '' : 'IF NOT EXISTS '}dispatch_timeline_batch ON ${database.table('dispatch_timeline')} (batch_id, at_ms)`,
    table('asset_lease', 'machine_id VARCHAR(40) NOT NULL PRIMARY KEY, apply_id VARCHAR(20) NOT NULL, since_ms BIGINT NOT NULL'),
  ];
}

/** Where tenants are called back. */
function callbacks(database: Database): readonly string[] {
  const end = database.family === 'mysql' ? ' ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin' : '';
  return [
    `CREATE TABLE IF NOT EXISTS ${database.table('dispatch_callback')} (tenant VARCHAR(60) NOT NULL PRIMARY KEY, url VARCHAR(2048) NOT NULL, key_ref VARCHAR(100) NOT NULL)${end}`,
  ];
}

/** How far a running slot is billed, and what the billing service has booked. */
async function billing(database: Database, look: Executor): Promise<readonly string[]> {
  const ddl = new SchemaWriter(database);
  ddl.table('billing_usage', 'invoice_id VARCHAR(40) NOT NULL PRIMARY KEY, tenant VARCHAR(60) NOT NULL, amount_cents INTEGER NOT NULL');
  const slot = await tableColumns(database, look, 'dispatch_slot');
  return [
    ...(slot.has('billed_to_ms') ? [] : [`ALTER TABLE ${database.table('dispatch_slot')} ADD COLUMN billed_to_ms BIGINT NULL`]),
    ...ddl.statements,
  ];
}
