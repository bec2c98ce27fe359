import { wholeNumber } from '../check/whole-number.ts';
import { Database } from '../database/database.ts';
import { isMissingTable } from '../database/transient.ts';
import { InvalidArgumentError } from '../errors/errors.ts';
import { migrate, migrationSql } from '../migrate/migrate.ts';
import type { BulkFilter, Inspectable, ListQuery } from '../operate/inspectable.ts';
import { type CommandLine, readArguments, UsageError, usage } from './arguments.ts';
import { type HoldfastConfig, loadConfig } from './config.ts';
import { redrive } from './redrive.ts';

const { command, args, values, jobArgs } = read();
if (command === undefined) {
  process.stdout.write(usage);
  process.exit(values.help ? 0 : 2);
}
try {
  const config = await loadConfig(values.config);
  try {
    await run(config, command);
  } finally {
    await config.close?.();
    await config.knex.destroy();
  }
  // Pools that the configuration left open would keep the process alive for half a minute.
  process.stdout.write('', () => process.exit());
} catch (error) {
  const hint = isMissingTable(error) ? ' Run holdfast migrate first.' : '';
  process.stderr.write(`holdfast: ${(error as Error).message}${hint}\n`);
  process.exit(1);
}

/** Reads the command line; ends the process with exit code 2 if it is not valid. */
function read(): CommandLine {
  try {
    return readArguments(process.argv.slice(2));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    process.stderr.write(`holdfast: ${error.message}`);
    process.exit(2);
  }
}

async function run(config: HoldfastConfig, name: string): Promise<void> {
  const options = { schema: config.schema, tablePrefix: config.tablePrefix };
  switch (name) {
    case 'migrate': {
      for (const [schema, done] of Object.entries(await migrate(config.knex, config.schemas, options)))
        print(`${schema}: ${done.join(', ') || 'up to date'}`);
      return;
    }
    case 'sql': {
      const database = new Database({ knex: config.knex, loopConnections: 1, ...options });
      try {
        await database.describe();
        print(await migrationSql(database, config.schemas));
      } finally {
        await database.close();
      }
      return;
    }
    case 'status': {
      for (const inspectable of inspectables(config))
        for (const row of await inspectable.stats())
          print([inspectable.name, ...Object.entries(row).map(([name, value]) => `${name}=${value}`)].join('\t'));
      return;
    }
    case 'list': {
      const asked = inspectables(config).filter(({ statuses }) => values.status === undefined || statuses.includes(values.status));
      if (asked.length === 0)
        throw new InvalidArgumentError(
          `No package has the status ${values.status}; there are ${inspectables(config)
            .map(({ name, statuses }) => `${statuses.join(', ')} (${name})`)
            .join('; ')}.`,
        );
      for (const inspectable of asked)
        for (const row of await inspectable.list(query())) print(JSON.stringify({ package: inspectable.name, ...row }));
      return;
    }
    case 'redrive':
      if (
        !(await redrive(
          inspectables(config),
          {
            ids: args,
            filter: bulkFilter(),
            rate: values.rate === undefined ? undefined : Number(values.rate),
            limit: values.limit === undefined ? undefined : wholeNumber('limit', Number(values.limit)),
            dryRun: values['dry-run'] ?? false,
            actor: values.actor,
            reason: values.reason,
          },
          print,
        ))
      )
        process.exitCode = 1;
      return;
    case 'run': {
      const runJob = config.jobs?.[args[0] ?? ''];
      if (!runJob)
        throw new InvalidArgumentError(
          `There is no job ${JSON.stringify(args[0] ?? '')}; known are ${Object.keys(config.jobs ?? {}).join(', ') || 'none'}. Add it to jobs in the configuration.`,
        );
      const result = await runJob(jobArgs);
      if (result !== undefined) print(JSON.stringify(result));
      return;
    }
  }
}

function inspectables(config: HoldfastConfig): readonly Inspectable[] {
  const all = config.inspectables ?? [];
  if (values.package === undefined) return all;
  const named = all.filter(({ name }) => name === values.package);
  if (named.length > 0) return named;
  throw new InvalidArgumentError(
    `There is no package ${values.package} among the inspectables of the configuration; there are ${all.map(({ name }) => name).join(', ') || 'none'}.`,
  );
}

function query(): ListQuery {
  return {
    ...filter(),
    ...(values.after === undefined ? {} : { after: values.after }),
    ...(values.limit === undefined ? {} : { limit: Number(values.limit) }),
  };
}

function filter(): Omit<ListQuery, 'after' | 'limit'> {
  const { status, key, subject, tenant } = values;
  const kind = values.kind ?? values.type;
  return {
    ...(status === undefined ? {} : { status }),
    ...(kind === undefined ? {} : { kind }),
    ...(key === undefined ? {} : { key }),
    ...(subject === undefined ? {} : { subject }),
    ...(tenant === undefined ? {} : { tenant }),
  };
}

function bulkFilter(): BulkFilter {
  return {
    ...filter(),
    ...(values['failed-reason'] === undefined ? {} : { reason: values['failed-reason'] }),
    ...(values['failed-after'] === undefined ? {} : { failedAfter: time('failed-after', values['failed-after']) }),
    ...(values['failed-before'] === undefined ? {} : { failedBefore: time('failed-before', values['failed-before']) }),
  };
}

function time(option: string, text: string): Date {
  const date = new Date(text);
  if (Number.isNaN(date.getTime()))
    throw new InvalidArgumentError(`--${option} is ${JSON.stringify(text)}; give a time such as 2026-11-30T08:00:00Z.`);
  return date;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
