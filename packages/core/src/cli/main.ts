import { parseArgs } from 'node:util';
import { wholeNumber } from '../check/whole-number.ts';
import { Database } from '../database/database.ts';
import { isMissingTable } from '../database/transient.ts';
import { InvalidArgumentError } from '../errors/errors.ts';
import { migrate, migrationSql } from '../migrate/migrate.ts';
import type { BulkFilter, Inspectable, ListQuery } from '../operate/inspectable.ts';
import { type HoldfastConfig, loadConfig } from './config.ts';
import { redrive } from './redrive.ts';

const usage = `holdfast <command> [--config FILE]

  migrate                         bring the tables up to date
  sql                             print the statements that migrate would run on an empty database
  status [--package P]            figures of each package: counts per type and status, and what waits
  list [--package P] [FILTER] [--after ID] [--limit N]
                                  rows as JSON, oldest first; 50 of each package unless --limit says otherwise
  redrive ID… --package P         [--dry-run] --actor WHO --reason WHY
  redrive FILTER [--package P]    [--dry-run] [--rate N] [--limit N] --actor WHO --reason WHY
                                  runs rows again that were given up: those with the ids, or all that match;
                                  of those, [--failed-reason R] [--failed-after T] [--failed-before T]
                                  --rate: rows per second at most; T: a time such as 2026-11-30T08:00:00Z
  FILTER                          [--status S] [--kind K or --type K] [--key K] [--subject S] [--tenant T]
  run JOB [arguments]             a job of the configuration
`;

const argv = process.argv.slice(2);
// Arguments after a job's name belong to the job.
const job = argv.indexOf('run') < 0 ? argv.length : argv.indexOf('run') + 2;
const { values, positionals } = parseArgs({
  args: argv.slice(0, job),
  allowPositionals: true,
  options: {
    config: { type: 'string' },
    status: { type: 'string' },
    kind: { type: 'string' },
    type: { type: 'string' },
    key: { type: 'string' },
    subject: { type: 'string' },
    tenant: { type: 'string' },
    'failed-reason': { type: 'string' },
    'failed-after': { type: 'string' },
    'failed-before': { type: 'string' },
    rate: { type: 'string' },
    after: { type: 'string' },
    limit: { type: 'string' },
    package: { type: 'string' },
    actor: { type: 'string' },
    reason: { type: 'string' },
    'dry-run': { type: 'boolean' },
    help: { type: 'boolean' },
  },
});

const [command, ...rest] = positionals;
if (command === undefined || values.help) {
  process.stdout.write(usage);
  process.exit(values.help ? 0 : 2);
}
try {
  const config = await loadConfig(values.config);
  try {
    await run(config, command, rest);
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

async function run(config: HoldfastConfig, name: string, args: readonly string[]): Promise<void> {
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
      const result = await runJob(argv.slice(job));
      if (result !== undefined) print(JSON.stringify(result));
      return;
    }
    default:
      throw new InvalidArgumentError(`There is no command ${name}.\n\n${usage}`);
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
