import { parseArgs } from 'node:util';
import { Database } from '../database/database.ts';
import { InvalidArgumentError } from '../errors/errors.ts';
import { migrate, migrationSql } from '../migrate/migrate.ts';
import type { Inspectable } from '../operate/inspectable.ts';
import { type HoldfastConfig, loadConfig } from './config.ts';

const usage = `holdfast <command> [--config FILE]

  migrate                         bring the tables up to date
  sql                             print the statements that migrate would run on an empty database
  status                          counts per package, type and status
  list [--status S] [--kind K] [--after ID] [--limit N]
  redrive ID… | --status FAILED [--kind K]   [--dry-run] --actor WHO --reason WHY
  run JOB [arguments]             a job of the configuration
`;

const argv = process.argv.slice(2);
// What follows a job's name is the job's.
const job = argv.indexOf('run') < 0 ? argv.length : argv.indexOf('run') + 2;
const { values, positionals } = parseArgs({
  args: argv.slice(0, job),
  allowPositionals: true,
  options: {
    config: { type: 'string' },
    status: { type: 'string' },
    kind: { type: 'string' },
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
} catch (error) {
  process.stderr.write(`holdfast: ${(error as Error).message}\n`);
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
        for (const row of await inspectable.stats()) print(`${inspectable.name}\t${Object.values(row).join('\t')}`);
      return;
    }
    case 'list': {
      for (const inspectable of inspectables(config))
        for (const row of await inspectable.list(query())) print(JSON.stringify({ package: inspectable.name, ...row }));
      return;
    }
    case 'redrive':
      return redrive(config, args);
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

async function redrive(config: HoldfastConfig, ids: readonly string[]): Promise<void> {
  const { actor, reason } = values;
  if (!values['dry-run'] && (!actor || !reason))
    throw new InvalidArgumentError(
      'redrive is written to the audit table: add --actor WHO --reason WHY, or --dry-run to see what it would do.',
    );
  for (const inspectable of inspectables(config)) {
    const action = inspectable.actions.redrive;
    if (!action) continue;
    const targets =
      ids.length > 0 ? ids : (await inspectable.list({ ...query(), status: values.status ?? 'FAILED' })).map((row) => String(row.id));
    for (const id of targets) {
      if (values['dry-run']) print(`${inspectable.name} ${id}: would be redriven`);
      else
        print(
          `${inspectable.name} ${id}: ${(await action(id, { actor: actor ?? '', reason: reason ?? '' })) === 1 ? 'redriven' : 'not in a state to redrive'}`,
        );
    }
  }
}

function inspectables(config: HoldfastConfig): readonly Inspectable[] {
  const all = config.inspectables ?? [];
  return values.package === undefined ? all : all.filter((inspectable) => inspectable.name === values.package);
}

function query(): { status?: string; kind?: string; after?: string; limit?: number } {
  return {
    ...(values.status === undefined ? {} : { status: values.status }),
    ...(values.kind === undefined ? {} : { kind: values.kind }),
    ...(values.after === undefined ? {} : { after: values.after }),
    ...(values.limit === undefined ? {} : { limit: Number(values.limit) }),
  };
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
