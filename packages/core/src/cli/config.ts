import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Knex } from 'knex';
import { InvalidArgumentError } from '../errors/errors.ts';
import type { Schema } from '../migrate/schema.ts';
import type { Inspectable } from '../operate/inspectable.ts';

/** The default export of a service's `holdfast.config.ts`. */
export interface HoldfastConfig {
  /** The service's database. The command closes it at its end. */
  readonly knex: Knex;
  /** The schemas that `migrate` brings up to date. */
  readonly schemas: readonly Schema[];
  /** The packages that `status`, `list` and `redrive` show and change. */
  readonly inspectables?: readonly Inspectable[];
  /** Jobs for `holdfast run <name>`, by name: a scan, a sweep. */
  readonly jobs?: Readonly<Record<string, (args: readonly string[]) => Promise<unknown>>>;
  /** Postgres schema of the tables. Default: the first schema of the connection's `search_path`. */
  readonly schema?: string;
  /** Prefix of the name of every table. Default `''`. */
  readonly tablePrefix?: string;
  /** Closes the connections that the configuration opened. Called before the command ends. */
  readonly close?: () => Promise<void>;
}

const names = ['holdfast.config.ts', 'holdfast.config.mts', 'holdfast.config.js', 'holdfast.config.mjs'];

/** Loads the configuration from `file`, or from the usual names in the working directory. */
export async function loadConfig(file: string | undefined): Promise<HoldfastConfig> {
  const path = file === undefined ? names.map((name) => resolve(name)).find(existsSync) : resolve(file);
  if (path === undefined || !existsSync(path)) {
    throw new InvalidArgumentError(
      `No ${file ?? names[0]} here. Create one that exports your knex and schemas: export default { knex, schemas: [coreSchema], inspectables: [biz.inspect()] }, or name it with --config.`,
    );
  }
  const { default: config } = (await import(pathToFileURL(path).href)) as { default?: HoldfastConfig };
  if (!config?.knex || !Array.isArray(config.schemas)) {
    throw new InvalidArgumentError(
      `${path} must export by default an object with knex and schemas: export default { knex, schemas: [coreSchema] }.`,
    );
  }
  return config;
}
