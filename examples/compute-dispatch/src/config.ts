import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { openSqlite } from '@holdfast/core/sqlite';
import type { EgressOptions } from '@holdfast/notifier';
import type { ExecutorOptions } from '@holdfast/xxl-job';
import knexFactory, { type Knex } from 'knex';
import { z } from 'zod';

const schema = z.object({
  /** Where the rows are: a postgres:// or mysql:// address, or nothing for a SQLite file beside the service. */
  DISPATCH_DATABASE_URL: z.string().optional(),
  /** Where messages go: a kafka:// or amqp:// address, or nothing for a table in the database. */
  DISPATCH_BROKER_URL: z
    .string()
    .regex(/^(kafka|amqps?):\/\//, 'must start with kafka:// or amqp://')
    .optional(),
  PORT: z.coerce.number().int().min(0).max(65_535).default(8080),
  HOST: z.string().default('127.0.0.1'),
  /** The two databases of invoices, with a comma. Default: two schemas, databases or files beside the rows. */
  DISPATCH_INVOICE_DATABASE_URLS: z
    .string()
    .regex(/^[^,]+,[^,]+$/, 'must be two addresses with a comma between them')
    .optional(),
  /** How long a machine runs for one invoice, in seconds. */
  DISPATCH_BILLING_SECONDS: z.coerce.number().min(1).default(60),
  /** How often invoices that were not sent are looked for, in seconds. */
  DISPATCH_SCAN_SECONDS: z.coerce.number().min(1).default(120),
  /** Of a hundred invoices, how many lose their sender between COMMIT and sending, so that the scan has something to find. */
  DISPATCH_LOSE_PERCENT: z.coerce.number().min(0).max(100).default(10),
  /** Addresses of xxl-job admins, with commas. They trigger the scan then (handler `invoiceScanJobHandler`, parameter such as `1,2`), not the timer. */
  DISPATCH_XXL_ADMINS: z.string().optional(),
  DISPATCH_XXL_TOKEN: z.string().optional(),
  /** Where the admin reaches this executor. */
  DISPATCH_XXL_PORT: z.coerce.number().int().min(0).max(65_535).default(9_999),
  /** Where algorithm tasks run: in bubblewrap on this machine, as Jobs of the cluster that the kubeconfig names, or (your own programs only) as plain processes. */
  DISPATCH_EXECUTOR: z.enum(['sandbox', 'kubernetes', 'none']).default('sandbox'),
  DISPATCH_KUBERNETES_NAMESPACE: z.string().default('holdfast-runs'),
  /** Where files of algorithm tasks are kept: `https://key:secret@host/bucket`, or nothing for the database. */
  DISPATCH_S3_URL: z
    .string()
    .regex(/^https?:\/\//, 'must be http(s)://key:secret@host/bucket')
    .optional(),
  /** Algorithm tasks that run at a time. */
  DISPATCH_RUN_SLOTS: z.coerce.number().int().min(1).max(1_000).default(4),
  /** Machines of the simulated room. */
  DISPATCH_MACHINES: z.coerce.number().int().min(1).max(100_000).default(96),
  /** What the keys of callbacks are derived from: the same in every process. Default: made at the first start and kept beside the database file. */
  DISPATCH_SECRET: z.string().min(32, 'must have at least 32 characters').optional(),
  /** Private address ranges that callbacks may reach, with commas. Default: this machine's own, while HOST is. */
  DISPATCH_CALLBACK_CIDRS: z.string().optional(),
  /** Ports that callbacks may reach besides 80, 443 and 8443, with commas. */
  DISPATCH_CALLBACK_PORTS: z
    .string()
    .regex(/^\d{1,5}(,\d{1,5})*$/, 'must be numbers with commas')
    .default('8090'),
  /** Whether callbacks may go over plain HTTP. Default: while HOST is this machine. */
  DISPATCH_CALLBACK_HTTP: z.enum(['yes', 'no']).optional(),
});

export type Config = z.infer<typeof schema>;

export function readConfig(env: NodeJS.ProcessEnv): Config {
  const result = schema.safeParse(env);
  if (result.success) return result.data;
  throw new Error(
    `The configuration is not usable: ${result.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; ')}.`,
  );
}

const data = join(import.meta.dirname, '..', 'data');

/** The secret that was given, or the one of this checkout. */
export function readSecret(config: Config): string {
  if (config.DISPATCH_SECRET !== undefined) return config.DISPATCH_SECRET;
  const file = join(data, 'secret');
  mkdirSync(data, { recursive: true });
  // Two processes that start at once: the first one's stays.
  if (!existsSync(file)) {
    try {
      writeFileSync(file, randomBytes(32).toString('hex'), { mode: 0o600, flag: 'wx' });
    } catch (error) {
      if ((error as { code?: string }).code !== 'EEXIST') throw error;
    }
  }
  return readFileSync(file, 'utf8');
}

/** What callbacks may call: the world over HTTPS; on a machine that serves itself alone, itself too. */
export function readEgress(config: Config): EgressOptions {
  const own = ['127.0.0.1', '::1', 'localhost'].includes(config.HOST);
  return {
    allowHttp: config.DISPATCH_CALLBACK_HTTP === undefined ? own : config.DISPATCH_CALLBACK_HTTP === 'yes',
    allowCidrs: (config.DISPATCH_CALLBACK_CIDRS ?? (own ? '127.0.0.1/32' : '')).split(',').filter(Boolean),
    allowPorts: config.DISPATCH_CALLBACK_PORTS.split(',').map(Number),
  };
}

/** The xxl-job admins, if there are any. */
export function readXxl(config: Config): Pick<ExecutorOptions, 'admins' | 'accessToken' | 'port'> | undefined {
  const { DISPATCH_XXL_ADMINS: admins, DISPATCH_XXL_TOKEN: accessToken, DISPATCH_XXL_PORT: port } = config;
  return admins ? { admins: admins.split(','), port, ...(accessToken ? { accessToken } : {}) } : undefined;
}

/** The database of the service. */
export function openKnex(config: Config): Knex {
  return openUrl(config.DISPATCH_DATABASE_URL ?? ownFile());
}

/** The two of invoices. Those that were not named are made. */
export async function openInvoiceDatabases(config: Config, knex: Knex): Promise<readonly [Knex, Knex]> {
  const [one = '', two = ''] = config.DISPATCH_INVOICE_DATABASE_URLS?.split(',') ?? [
    await beside(config.DISPATCH_DATABASE_URL ?? ownFile(), knex, 'invoices_1'),
    await beside(config.DISPATCH_DATABASE_URL ?? ownFile(), knex, 'invoices_2'),
  ];
  return [openUrl(one), openUrl(two)];
}

function ownFile(): string {
  mkdirSync(data, { recursive: true });
  return pathToFileURL(join(data, 'dispatch.db')).href;
}

/** The address of a file, schema or database like the given one, made if it is not there. */
async function beside(address: string, knex: Knex, name: string): Promise<string> {
  const url = new URL(address);
  if (url.protocol === 'file:') {
    url.pathname = url.pathname.replace(/(\.[a-z]+)?$/, `-${name}$1`);
  } else if (url.protocol === 'mysql:') {
    url.pathname += `_${name}`;
    await knex.raw('CREATE DATABASE IF NOT EXISTS ??', [url.pathname.slice(1)]);
  } else {
    url.searchParams.set('schema', `${url.searchParams.get('schema') ?? 'dispatch'}_${name}`);
    await knex.raw('CREATE SCHEMA IF NOT EXISTS ??', [url.searchParams.get('schema')]);
  }
  return url.href;
}

function openUrl(url: string): Knex {
  if (url.startsWith('file:')) return openSqlite(fileURLToPath(url));
  if (/^postgres(ql)?:/.test(url)) {
    const address = new URL(url);
    const searchPath = address.searchParams.get('schema');
    address.searchParams.delete('schema');
    return knexFactory({
      client: 'pg',
      connection: address.href,
      ...(searchPath ? { searchPath: [searchPath] } : {}),
      pool: { min: 0, max: 10 },
    });
  }
  if (/^mysql:/.test(url)) return knexFactory({ client: 'mysql2', connection: url, pool: { min: 0, max: 10 } });
  throw new Error('A database address must start with postgres://, mysql:// or file:.');
}
