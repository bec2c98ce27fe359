import { parseArgs } from 'node:util';

const options = {
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
} as const;

type Option = keyof typeof options;

const filter: readonly Option[] = ['status', 'kind', 'type', 'key', 'subject', 'tenant'];

/** A command: its usage, the options that it takes beside `--config` and `--help`, and the number of arguments that it takes at most. */
interface Command {
  readonly usage: string;
  readonly takes: readonly Option[];
  readonly most: number;
}

const filterUsage = '  FILTER                          [--status S] [--kind K or --type K] [--key K] [--subject S] [--tenant T]\n';

const commands: Readonly<Record<string, Command>> = {
  migrate: { usage: '  migrate                         bring the tables up to date\n', takes: [], most: 0 },
  sql: {
    usage: '  sql                             print the statements that migrate would run on an empty database\n',
    takes: [],
    most: 0,
  },
  status: {
    usage: '  status [--package P]            figures of each package: counts per type and status, and what waits\n',
    takes: ['package'],
    most: 0,
  },
  list: {
    usage: `  list [--package P] [FILTER] [--after ID] [--limit N]
                                  rows as JSON, oldest first; 50 of each package unless --limit says otherwise
`,
    takes: ['package', ...filter, 'after', 'limit'],
    most: 0,
  },
  redrive: {
    usage: `  redrive ID… --package P         [--dry-run] --actor WHO --reason WHY
  redrive FILTER [--package P]    [--dry-run] [--rate N] [--limit N] --actor WHO --reason WHY
                                  runs rows again that were given up: those with the ids, or all that match;
                                  of those, [--failed-reason R] [--failed-after T] [--failed-before T]
                                  --rate: rows per second at most; T: a time such as 2026-11-30T08:00:00Z
`,
    takes: ['package', ...filter, 'failed-reason', 'failed-after', 'failed-before', 'rate', 'limit', 'dry-run', 'actor', 'reason'],
    most: Number.POSITIVE_INFINITY,
  },
  run: { usage: '  run JOB [arguments]             a job of the configuration\n', takes: [], most: 1 },
};

const head = 'holdfast <command> [--config FILE]\n\n';

/** The usage of every command. */
export const usage: string = `${head}${Object.entries(commands)
  .map(([name, command]) => command.usage + (name === 'redrive' ? filterUsage : ''))
  .join('')}`;

/** The values of the options that were given. */
export type Values = Readonly<Partial<{ [Name in Option]: (typeof options)[Name]['type'] extends 'boolean' ? boolean : string }>>;

/** A command line that was understood. */
export interface CommandLine {
  /** Undefined if none was given. */
  readonly command: string | undefined;
  readonly args: readonly string[];
  readonly values: Values;
  /** The arguments after the name of a job: they belong to the job. */
  readonly jobArgs: readonly string[];
}

/** A command line that is not valid. The message ends with the usage of its command. */
export class UsageError extends Error {
  constructor(message: string, command?: string) {
    const own = command === undefined ? undefined : commands[command];
    super(`${message}\n\n${own ? head + own.usage + (own.takes.includes('kind') ? filterUsage : '') : usage}`);
  }
}

/**
 * Reads a command line.
 * @throws UsageError for a command or an option that does not exist, that the command does not take, or whose value is missing
 */
export function readArguments(argv: readonly string[]): CommandLine {
  const { tokens } = parseArgs({ args: [...argv], options, allowPositionals: true, strict: false, tokens: true });
  const first = tokens.find((token) => token.kind === 'positional');
  const name = first?.value;
  // Arguments after a job's name belong to the job.
  const end = first && name === 'run' ? first.index + 2 : argv.length;
  const given = tokens.filter((token) => token.kind === 'option').filter(({ index }) => index < end);
  const unknown = given.find((token) => !Object.hasOwn(options, token.name));
  if (unknown) throw new UsageError(`There is no option ${unknown.rawName}.`, known(name));
  const { values, positionals } = strictly(argv.slice(0, end), name);
  const [, ...args] = positionals;
  if (values.help || name === undefined) return { command: undefined, args, values, jobArgs: [] };
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (!command) throw new UsageError(`There is no command ${name}.`);
  const strange = given.find((token) => token.name !== 'config' && !command.takes.includes(token.name as Option));
  if (strange) throw new UsageError(`${name} takes no option ${strange.rawName}.`, name);
  if (args.length > command.most) throw new UsageError(`${name} takes no argument ${JSON.stringify(args[command.most])}.`, name);
  if (values.kind !== undefined && values.type !== undefined) throw new UsageError('--kind and --type are one option; give one.', name);
  return { command: name, args, values, jobArgs: argv.slice(end) };
}

function strictly(args: readonly string[], name: string | undefined): { readonly values: Values; readonly positionals: readonly string[] } {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true });
  } catch (error) {
    // Its first sentence, as in: Option '--limit <value>' argument missing.
    throw new UsageError(`${(error as Error).message.split(/\.?\n/)[0]}.`, known(name));
  }
}

/** The name, if a command has it. */
function known(name: string | undefined): string | undefined {
  return name !== undefined && Object.hasOwn(commands, name) ? name : undefined;
}
