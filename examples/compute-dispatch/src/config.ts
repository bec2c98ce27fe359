import { createHmac, randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { openSqlite } from '@holdfast/core/sqlite';
import type { EgressOptions } from '@holdfast/notifier';
import type { ExecutorOptions } from '@holdfast/xxl-job';
import knexFactory, { type Knex } from 'knex';
import { z } from 'zod';
import { backslashEscapes } from './backslash-escapes.ts';
import { type Role, roles } from './dispatch.ts';

const whole = z.coerce.number().int();
const seconds = z.coerce.number().min(0.1).max(86_400);
const percent = z.coerce.number().min(0).max(100);

/** Every environment variable of the service. The table of the README is generated from it. */
export const configSchema = z.object({
  PORT: whole.min(0).max(65_535).default(8080).describe('Where it listens.'),
  HOST: z.string().default('127.0.0.1').describe('On which address. Beyond loopback, make keys first and put TLS before it.'),
  DISPATCH_HEALTH_PORT: whole
    .min(0)
    .max(65_535)
    .optional()
    .describe('Where a process without `api` answers `/healthz`, `/readyz` and `/metrics`. Default: nowhere.'),
  LOG_LEVEL: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']).default('warn').describe('What is logged, as JSON lines.'),
  DISPATCH_ROLES: z
    .string()
    .default(roles.join(','))
    .refine((text) => text.split(',').every((role) => (roles as readonly string[]).includes(role)), `must be some of ${roles.join(',')}`)
    .describe('What this process does: `api` answers requests, `worker` works, `relay` publishes messages and sends callbacks.'),
  DISPATCH_DATABASE_URL: z.string().optional().describe('`postgres://…?schema=s`, `mysql://…` or `file:…`. Default: a file in `data/`.'),
  DISPATCH_DATABASE_CONNECTIONS: whole.min(1).max(1_000).default(10).describe('Connections of its pool.'),
  DISPATCH_INVOICE_DATABASE_URLS: z
    .string()
    .regex(/^[^,]+,[^,]+$/, 'must be two addresses with a comma between them')
    .optional()
    .describe(
      'Where invoices lie: two addresses, with a comma. Default: `…_invoices_1` and `…_invoices_2` beside the rows (schemas, databases or files). An account that may not create them needs them made first.',
    ),
  DISPATCH_BROKER_URL: z
    .string()
    .regex(/^(kafka|amqps?):\/\//, 'must start with kafka:// or amqp://')
    .optional()
    .describe('Where messages go: `kafka://host:port,…` or `amqp://…`. Default: a table.'),
  DISPATCH_RUN_QUEUE_URL: z
    .string()
    .regex(/^amqps?:\/\//, 'must start with amqp://')
    .optional()
    .describe('RabbitMQ for the queue of algorithm tasks. Default: the broker, if it is RabbitMQ; else the database.'),
  DISPATCH_REDIS_URL: z
    .string()
    .regex(/^rediss?:\/\//, 'must start with redis://')
    .optional()
    .describe('Wakes other processes by Redis pub/sub. Default: the database does.'),
  DISPATCH_S3_URL: z
    .string()
    .regex(/^https?:\/\//, 'must be http(s)://key:secret@host/bucket')
    .optional()
    .describe('Where files of algorithm tasks are: `https://key:secret@host/bucket`. Default: the database.'),
  DISPATCH_SECRET: z
    .string()
    .min(32, 'must have at least 32 characters')
    .optional()
    .describe('What keys of callbacks and of the room are derived from; the same in every process. Default: made at the first start.'),
  DISPATCH_ADMIN_KEY: z
    .string()
    .regex(/^hf_[A-Za-z0-9]{12}_[A-Za-z0-9_-]{32}$/, 'must look like hf_<12 letters or digits>_<32 letters, digits, - or _>')
    .optional()
    .describe("The operators' API key. Default: derived from the secret, and printed at the start."),
  DISPATCH_QUOTA: whole.min(1).max(10_000_000).default(10_000).describe('Slots that a new tenant may have at a time.'),
  DISPATCH_ROOM_URL: z
    .string()
    .regex(/^https?:\/\//, 'must start with http:// or https://')
    .optional()
    .describe("The machine room's controller. Default: a simulated one is started as a process."),
  DISPATCH_ROOM_TOKEN: z.string().min(16).optional().describe('What service and room show each other. Default: derived from the secret.'),
  DISPATCH_MACHINES: whole.min(1).max(1_000_000).default(96).describe('Machines of the simulated room.'),
  DISPATCH_ROOM_SEED: whole.min(1).max(2_147_483_646).default(1).describe('What its misbehaviour follows from.'),
  DISPATCH_ROOM_FAULTS: z.enum(['ordinary', 'none']).default('ordinary').describe('How it misbehaves at first.'),
  DISPATCH_CALLBACK_CIDRS: z
    .string()
    .optional()
    .describe("Private address ranges that callbacks may reach, with commas. Default: this machine's, while HOST is."),
  DISPATCH_CALLBACK_PORTS: z
    .string()
    .regex(/^\d{1,5}(,\d{1,5})*$/, 'must be numbers with commas')
    .default('8090')
    .describe('Ports that they may reach besides 80, 443 and 8443, with commas.'),
  DISPATCH_CALLBACK_HTTP: z
    .enum(['yes', 'no'])
    .optional()
    .describe('Whether they may go over plain HTTP. Default: while HOST is this machine.'),
  DISPATCH_BILLING_SECONDS: seconds.default(60).describe('How long a machine runs for one line of its bill.'),
  DISPATCH_RECONCILE_SECONDS: seconds.default(60).describe("How often the room's list is compared with ours."),
  DISPATCH_QUARANTINE_SECONDS: seconds
    .default(600)
    .describe('After which a machine is free though its room has not confirmed the release.'),
  DISPATCH_SCAN_SECONDS: seconds.default(120).describe('How often invoices that were not sent are looked for.'),
  DISPATCH_LOSE_PERCENT: percent
    .default(10)
    .describe('Of a hundred invoices, how many lose their sender after COMMIT, so that the scan has work. 0 in earnest.'),
  DISPATCH_XXL_ADMINS: z
    .string()
    .optional()
    .describe(
      'xxl-job admins, with commas: they trigger `invoiceScanJobHandler`, `reconcileJobHandler`, `reapplyJobHandler` and `callbackCompensationJobHandler`, and no timer does.',
    ),
  DISPATCH_XXL_TOKEN: z.string().optional().describe('Their access token.'),
  DISPATCH_XXL_PORT: whole.min(0).max(65_535).default(9_999).describe('Where they reach this executor.'),
  DISPATCH_EXECUTOR: z
    .enum(['sandbox', 'kubernetes', 'none'])
    .default('sandbox')
    .describe('Where algorithm tasks run: `sandbox` (bubblewrap here), `kubernetes`, or `none` (plain processes: your own programs only).'),
  DISPATCH_KUBERNETES_NAMESPACE: z
    .string()
    .default('holdfast-runs')
    .describe("With `kubernetes`: the namespace. The cluster is the kubeconfig's, or the one it runs in."),
  DISPATCH_RUN_SLOTS: whole.min(1).max(1_000).default(4).describe('Algorithm tasks that run at a time.'),
  OTEL_EXPORTER_OTLP_ENDPOINT: z
    .string()
    .regex(/^https?:\/\//, 'must start with http:// or https://')
    .optional()
    .describe('Where spans are sent, by OTLP over HTTP: `http://collector:4318`. Default: nowhere. Metrics are at `/metrics`.'),
  DISPATCH_CRASH: z
    .enum(['yes', 'no'])
    .default('no')
    .describe('Whether the page may end processes, for the demonstration. `npm start` says yes.'),
});

export type Config = z.infer<typeof configSchema>;

export function readConfig(env: NodeJS.ProcessEnv): Config {
  // An empty variable counts as not set: compose files and charts write it so.
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== ''));
  const result = configSchema.safeParse(given);
  if (result.success) return result.data;
  throw new Error(
    `The configuration is not usable: ${result.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; ')}.`,
  );
}

/** The table of the README. */
export function configTable(): string {
  const rows = Object.entries(configSchema.shape).map(([name, field]) => {
    const fallback = field instanceof z.ZodDefault ? `\`${String(field.def.defaultValue)}\`` : '';
    return `| \`${name}\` | ${fallback} | ${field.description ?? ''} |`;
  });
  return ['| variable | default | what it is |', '| --- | --- | --- |', ...rows].join('\n');
}

/** Describes for people what would run. Without secrets. */
export function describeConfig(config: Config): string {
  const secret = /SECRET|KEY|TOKEN/;
  const shown = (name: string, value: unknown): string => {
    if (value === undefined) return '(default)';
    if (secret.test(name)) return '(set)';
    return String(value).replaceAll(/:\/\/[^@/,]*@/g, '://…@');
  };
  return Object.keys(configSchema.shape)
    .map((name) => `${name.padEnd(32)} ${shown(name, config[name as keyof Config])}`)
    .join('\n');
}

const data = join(import.meta.dirname, '..', 'data');

/** The folder whose files persist between starts. Only this user may read it: it has the secret and the database. */
export function dataFolder(): string {
  mkdirSync(data, { recursive: true, mode: 0o700 });
  // One of an earlier version was open to all.
  chmodSync(data, 0o700);
  return data;
}

/** The configured secret, or the one that this checkout generated. */
export function readSecret(config: Config): string {
  if (config.DISPATCH_SECRET !== undefined) return config.DISPATCH_SECRET;
  const file = join(dataFolder(), 'secret');
  // If two processes start at once, the secret of the first is kept.
  if (!existsSync(file)) {
    try {
      writeFileSync(file, randomBytes(32).toString('hex'), { mode: 0o600, flag: 'wx' });
    } catch (error) {
      if ((error as { code?: string }).code !== 'EEXIST') throw error;
    }
  }
  return readFileSync(file, 'utf8');
}

/** An API key derived from the secret, so that every process of a demonstration has the same one. */
export function derivedKey(secret: string, name: string): string {
  const bytes = createHmac('sha512', secret).update(`api key ${name}`).digest();
  const id = bytes.subarray(0, 12).toString('hex').slice(0, 12);
  return `hf_${id}_${bytes.subarray(12, 36).toString('base64url')}`;
}

export function adminKey(config: Config): string {
  return config.DISPATCH_ADMIN_KEY ?? derivedKey(readSecret(config), 'admin');
}

export function roomToken(config: Config): string {
  return config.DISPATCH_ROOM_TOKEN ?? createHmac('sha256', readSecret(config)).update('room').digest('base64url');
}

export function readRoles(config: Config): ReadonlySet<Role> {
  return new Set(config.DISPATCH_ROLES.split(',') as Role[]);
}

/** The addresses that callbacks may call: public ones over HTTPS, and this machine itself if the service listens on loopback only. */
export function readEgress(config: Config): EgressOptions {
  const own = ['127.0.0.1', '::1', 'localhost'].includes(config.HOST);
  return {
    allowHttp: config.DISPATCH_CALLBACK_HTTP === undefined ? own : config.DISPATCH_CALLBACK_HTTP === 'yes',
    allowCidrs: (config.DISPATCH_CALLBACK_CIDRS ?? (own ? '127.0.0.1/32' : '')).split(',').filter(Boolean),
    allowPorts: config.DISPATCH_CALLBACK_PORTS.split(',').map(Number),
  };
}

/** The xxl-job admins, if any are configured. */
export function readXxl(config: Config): Pick<ExecutorOptions, 'admins' | 'accessToken' | 'port'> | undefined {
  const { DISPATCH_XXL_ADMINS: admins, DISPATCH_XXL_TOKEN: accessToken, DISPATCH_XXL_PORT: port } = config;
  return admins ? { admins: admins.split(','), port, ...(accessToken ? { accessToken } : {}) } : undefined;
}

/** The database of the service. */
export function openKnex(config: Config): Knex {
  return openUrl(config.DISPATCH_DATABASE_URL ?? ownFile(), config.DISPATCH_DATABASE_CONNECTIONS);
}

/** The two databases of invoices. Those that are not configured are created. */
export async function openInvoiceDatabases(config: Config, knex: Knex): Promise<readonly [Knex, Knex]> {
  const [one = '', two = ''] = config.DISPATCH_INVOICE_DATABASE_URLS?.split(',') ?? [
    await beside(config.DISPATCH_DATABASE_URL ?? ownFile(), knex, 'invoices_1'),
    await beside(config.DISPATCH_DATABASE_URL ?? ownFile(), knex, 'invoices_2'),
  ];
  return [openUrl(one, config.DISPATCH_DATABASE_CONNECTIONS), openUrl(two, config.DISPATCH_DATABASE_CONNECTIONS)];
}

function ownFile(): string {
  return pathToFileURL(join(dataFolder(), 'service.db')).href;
}

/** The address of a file, schema or database beside the given one, created if it is missing. */
async function beside(address: string, knex: Knex, name: string): Promise<string> {
  const url = new URL(address);
  if (url.protocol === 'file:') {
    url.pathname = url.pathname.replace(/(\.[a-z]+)?$/, `-${name}$1`);
  } else if (url.protocol === 'mysql:') {
    url.pathname += `_${name}`;
    const database = url.pathname.slice(1);
    // Made by hand where this account may not create databases.
    const [there] = await knex('information_schema.schemata').where({ schema_name: database }).select({ name: 'schema_name' });
    if (!there) await knex.raw('CREATE DATABASE IF NOT EXISTS ??', [database]);
  } else {
    url.searchParams.set('schema', `${url.searchParams.get('schema') ?? 'dispatch'}_${name}`);
    await knex.raw('CREATE SCHEMA IF NOT EXISTS ??', [url.searchParams.get('schema')]);
  }
  return url.href;
}

function openUrl(url: string, connections: number): Knex {
  if (url.startsWith('file:')) return openSqlite(fileURLToPath(url));
  const pool = { min: 0, max: connections };
  if (/^postgres(ql)?:/.test(url)) {
    const address = new URL(url);
    const searchPath = address.searchParams.get('schema');
    address.searchParams.delete('schema');
    return knexFactory({ client: 'pg', connection: address.href, ...(searchPath ? { searchPath: [searchPath] } : {}), pool });
  }
  if (/^mysql:/.test(url)) return knexFactory({ client: 'mysql2', connection: url, pool: { ...pool, afterCreate: backslashEscapes } });
  throw new Error('A database address must start with postgres://, mysql:// or file:.');
}
