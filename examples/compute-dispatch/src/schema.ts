import { type Database, keepTrailingSpaces, type Schema, SchemaWriter } from '@holdfast/core';

/** Tables of the service. `active` is 1 or NULL, so that a unique rule holds among active leases only, on every database. */
export const dispatchSchema: Schema = {
  name: 'dispatch-service',
  migrations: [
    { name: '0001_create', statements: create },
    {
      name: '0002_trailing_spaces',
      statements: (database, sql) =>
        keepTrailingSpaces(database, sql, [
          'dispatch_tenant',
          'dispatch_api_key',
          'dispatch_callback',
          'dispatch_package',
          'dispatch_price',
          'dispatch_room',
          'dispatch_parameter',
          'dispatch_machine',
          'dispatch_batch',
          'dispatch_slot',
          'dispatch_lease',
          'dispatch_power_event',
          'dispatch_stray',
          'dispatch_charge',
          'dispatch_counter',
          'dispatch_event',
          'asset_lease',
          'billing_usage',
        ]),
    },
  ],
};

function create(database: Database): readonly string[] {
  const ddl = new SchemaWriter(database);
  tenants(ddl);
  catalogue(ddl);
  orders(ddl);
  power(ddl);
  others(ddl);
  return ddl.statements;
}

function tenants(ddl: SchemaWriter): void {
  ddl.table(
    'dispatch_tenant',
    'id VARCHAR(60) NOT NULL PRIMARY KEY, max_slots INTEGER NOT NULL, used_slots INTEGER NOT NULL DEFAULT 0, created_ms BIGINT NOT NULL',
  );
  ddl.table(
    'dispatch_api_key',
    'id VARCHAR(20) NOT NULL PRIMARY KEY, tenant VARCHAR(60) NULL, salt VARCHAR(64) NOT NULL, hash VARCHAR(128) NOT NULL, created_ms BIGINT NOT NULL, revoked_ms BIGINT NULL',
  );
  ddl.table('dispatch_callback', 'tenant VARCHAR(60) NOT NULL PRIMARY KEY, url VARCHAR(2048) NOT NULL, key_ref VARCHAR(100) NOT NULL');
}

/** Packages, prices, rooms and machines. */
function catalogue(ddl: SchemaWriter): void {
  ddl.table(
    'dispatch_package',
    'id VARCHAR(40) NOT NULL PRIMARY KEY, cpu INTEGER NOT NULL, memory_gib INTEGER NOT NULL, gpu VARCHAR(60) NULL',
  );
  ddl.table(
    'dispatch_price',
    'package_id VARCHAR(40) NOT NULL, version INTEGER NOT NULL, cents_per_hour INTEGER NOT NULL, from_ms BIGINT NOT NULL, PRIMARY KEY (package_id, version)',
  );
  ddl.table('dispatch_room', 'id VARCHAR(40) NOT NULL PRIMARY KEY, url VARCHAR(500) NOT NULL, network VARCHAR(60) NOT NULL');
  // How machines of a package stream their screen, unless the order says otherwise.
  ddl.table(
    'dispatch_parameter',
    `package_id VARCHAR(40) NOT NULL, name VARCHAR(60) NOT NULL, value VARCHAR(200) NOT NULL, PRIMARY KEY (package_id, name)`,
  );
  ddl.table(
    'dispatch_machine',
    "id VARCHAR(40) NOT NULL PRIMARY KEY, room VARCHAR(40) NOT NULL, ip VARCHAR(45) NOT NULL, package_id VARCHAR(40) NOT NULL, state VARCHAR(8) NOT NULL DEFAULT 'FREE', epoch INTEGER NOT NULL DEFAULT 0",
  );
  ddl.index('dispatch_machine_free', 'dispatch_machine', 'package_id, id', { where: "state = 'FREE'", wide: 'package_id, state, id' });
}

function orders(ddl: SchemaWriter): void {
  ddl.table(
    'dispatch_batch',
    'id VARCHAR(20) NOT NULL PRIMARY KEY, tenant VARCHAR(60) NOT NULL, business_order_no VARCHAR(100) NOT NULL, fingerprint CHAR(64) NOT NULL, package_id VARCHAR(40) NOT NULL, price_version INTEGER NOT NULL, policy VARCHAR(16) NOT NULL, wanted INTEGER NOT NULL, minimum INTEGER NOT NULL, state VARCHAR(12) NOT NULL, result VARCHAR(12) NULL, passes INTEGER NOT NULL DEFAULT 0, notify_url VARCHAR(2048) NULL, notify_key VARCHAR(500) NULL, deadline_ms BIGINT NULL, started_ms BIGINT NULL, created_ms BIGINT NOT NULL, finished_ms BIGINT NULL, ended_ms BIGINT NULL',
  );
  ddl.index('dispatch_batch_order', 'dispatch_batch', 'tenant, business_order_no', { unique: true });
  ddl.index('dispatch_batch_tenant', 'dispatch_batch', 'tenant, id');
  // `news` counts the announcements about a slot; it gives callbacks and messages their order.
  ddl.table(
    'dispatch_slot',
    'apply_id VARCHAR(20) NOT NULL PRIMARY KEY, batch_id VARCHAR(20) NOT NULL, tenant VARCHAR(60) NOT NULL, state VARCHAR(12) NOT NULL, desired VARCHAR(3) NULL, lease_id VARCHAR(20) NULL, machine_id VARCHAR(40) NULL, news INTEGER NOT NULL DEFAULT 0, flag VARCHAR(40) NULL, retry_ms BIGINT NULL, changed_ms BIGINT NOT NULL',
  );
  ddl.index('dispatch_slot_batch', 'dispatch_slot', 'batch_id, state');
  // Times of `granted`, `released` and of power are the room's.
  ddl.table(
    'dispatch_lease',
    'id VARCHAR(20) NOT NULL PRIMARY KEY, apply_id VARCHAR(20) NOT NULL, batch_id VARCHAR(20) NOT NULL, tenant VARCHAR(60) NOT NULL, machine_id VARCHAR(40) NOT NULL, room VARCHAR(40) NOT NULL, ip VARCHAR(45) NOT NULL, package_id VARCHAR(40) NOT NULL, price_version INTEGER NOT NULL, epoch INTEGER NOT NULL, active INTEGER NULL, state VARCHAR(10) NOT NULL, power VARCHAR(3) NULL, held_ms BIGINT NOT NULL, granted_ms BIGINT NULL, releasing_ms BIGINT NULL, released_ms BIGINT NULL, seen_ms BIGINT NULL, missed INTEGER NOT NULL DEFAULT 0, off_failures INTEGER NOT NULL DEFAULT 0, fold_due_ms BIGINT NULL, billed_to_ms BIGINT NULL, billed_ms BIGINT NOT NULL DEFAULT 0, charges INTEGER NOT NULL DEFAULT 0',
  );
  ddl.index('dispatch_lease_machine', 'dispatch_lease', 'machine_id, active', { unique: true });
  ddl.index('dispatch_lease_ip', 'dispatch_lease', 'room, ip, active', { unique: true });
  ddl.index('dispatch_lease_slot', 'dispatch_lease', 'apply_id, active', { unique: true });
  ddl.index('dispatch_lease_fold', 'dispatch_lease', 'fold_due_ms', { where: 'fold_due_ms IS NOT NULL' });
  ddl.index('dispatch_lease_releasing', 'dispatch_lease', 'releasing_ms', { where: "state = 'RELEASING'", wide: 'state, releasing_ms' });
}

function power(ddl: SchemaWriter): void {
  // `lease_id` is NULL while the lease is unknown, and for ever if the epoch is stale.
  ddl.table(
    'dispatch_power_event',
    'id VARCHAR(191) NOT NULL PRIMARY KEY, lease_id VARCHAR(20) NULL, token VARCHAR(40) NOT NULL, machine_id VARCHAR(40) NOT NULL, epoch INTEGER NOT NULL, kind VARCHAR(12) NOT NULL, source VARCHAR(12) NOT NULL, occurred_ms BIGINT NOT NULL, sequence BIGINT NOT NULL, stored_ms BIGINT NOT NULL',
  );
  ddl.index('dispatch_power_event_lease', 'dispatch_power_event', 'lease_id');
  ddl.index('dispatch_power_event_unknown', 'dispatch_power_event', 'stored_ms', {
    where: 'lease_id IS NULL',
    wide: 'lease_id, stored_ms',
  });
  // Messages that are not valid power events.
  ddl.table(
    'dispatch_stray',
    `message_id VARCHAR(191) NOT NULL PRIMARY KEY, reason VARCHAR(500) NOT NULL, body VARCHAR(2000) NOT NULL, stored_ms BIGINT NOT NULL`,
  );
  ddl.index('dispatch_stray_newest', 'dispatch_stray', 'stored_ms');
  // Lines of bills. They never change: a further line corrects an error.
  ddl.table(
    'dispatch_charge',
    'id VARCHAR(40) NOT NULL PRIMARY KEY, lease_id VARCHAR(20) NOT NULL, apply_id VARCHAR(20) NOT NULL, tenant VARCHAR(60) NOT NULL, machine_id VARCHAR(40) NOT NULL, package_id VARCHAR(40) NOT NULL, price_version INTEGER NOT NULL, kind VARCHAR(10) NOT NULL, from_ms BIGINT NOT NULL, to_ms BIGINT NOT NULL, ms BIGINT NOT NULL, amount_cents INTEGER NOT NULL, created_ms BIGINT NOT NULL, invoiced INTEGER NOT NULL DEFAULT 0',
  );
  ddl.index('dispatch_charge_slot', 'dispatch_charge', 'apply_id');
  ddl.index('dispatch_charge_tenant', 'dispatch_charge', 'tenant, created_ms');
  ddl.index('dispatch_charge_new', 'dispatch_charge', 'created_ms', { where: 'invoiced = 0', wide: 'invoiced, created_ms' });
}

/** The tables of listeners: the feed of events, the asset service's list, the billing system's book. */
function others(ddl: SchemaWriter): void {
  ddl.table('dispatch_counter', 'name VARCHAR(40) NOT NULL PRIMARY KEY, value BIGINT NOT NULL');
  ddl.table(
    'dispatch_event',
    `seq BIGINT NOT NULL PRIMARY KEY, tenant VARCHAR(60) NOT NULL, batch_id VARCHAR(20) NOT NULL, subject VARCHAR(20) NOT NULL, type VARCHAR(40) NOT NULL, data ${ddl.text} NOT NULL, at_ms BIGINT NOT NULL, heard_ms BIGINT NOT NULL`,
  );
  ddl.index('dispatch_event_tenant', 'dispatch_event', 'tenant, seq');
  ddl.index('dispatch_event_subject', 'dispatch_event', 'subject');
  ddl.index('dispatch_event_batch', 'dispatch_event', 'batch_id, seq');
  ddl.table(
    'asset_lease',
    'machine_id VARCHAR(40) NOT NULL PRIMARY KEY, apply_id VARCHAR(20) NOT NULL, epoch INTEGER NOT NULL, active INTEGER NOT NULL, at_ms BIGINT NOT NULL',
  );
  ddl.table('billing_usage', 'invoice_id VARCHAR(40) NOT NULL PRIMARY KEY, tenant VARCHAR(60) NOT NULL, amount_cents INTEGER NOT NULL');
}
