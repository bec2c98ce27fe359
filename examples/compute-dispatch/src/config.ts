import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { openSqlite } from '@holdfast/core/sqlite';
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
  /** Machines of the simulated room. */
  DISPATCH_MACHINES: z.coerce.number().int().min(1).max(100_000).default(96),
});

export type Config = z.infer<typeof schema>;

export function readConfig(env: NodeJS.ProcessEnv): Config {
  const result = schema.safeParse(env);
  if (result.success) return result.data;
  throw new Error(
    `The configuration is not usable: ${result.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; ')}.`,
  );
}

export function openKnex(config: Config): Knex {
  const url = config.DISPATCH_DATABASE_URL;
  if (url === undefined) {
    const file = join(import.meta.dirname, '..', 'data', 'dispatch.db');
    mkdirSync(dirname(file), { recursive: true });
    return openSqlite(file);
  }
  if (url.startsWith('file:')) return openSqlite(new URL(url).pathname);
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
  throw new Error('DISPATCH_DATABASE_URL must start with postgres://, mysql:// or file:.');
}
