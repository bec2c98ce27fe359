import { InvalidArgumentError } from '../errors/errors.ts';
import type { BulkFilter, Inspectable, ListQuery } from '../operate/inspectable.ts';

const pageRows = 1_000;

/** The rows to redrive, by id or by a filter, and the person who redrives them. */
export interface RedriveCommand {
  readonly ids: readonly string[];
  /** The rows, unless there are ids. Without a status: the first that a package can redrive. */
  readonly filter: BulkFilter;
  /** Rows of each package at most. Default: all. */
  readonly limit: number | undefined;
  /** Rows per second at most. Default: no limit. */
  readonly rate: number | undefined;
  readonly dryRun: boolean;
  readonly actor: string | undefined;
  readonly reason: string | undefined;
}

/**
 * Redrives rows of the packages, and prints a line for each row and a count for each package.
 * @returns whether each row that was named by its id was redriven
 * @throws InvalidArgumentError if it is not clear which rows are meant, or who redrives them and why
 */
export async function redrive(all: readonly Inspectable[], command: RedriveCommand, print: (line: string) => void): Promise<boolean> {
  const { filter, dryRun } = command;
  const { status } = filter;
  const ids = [...new Set(command.ids)];
  if (ids.length > 0 && (Object.keys(filter).length > 0 || command.limit !== undefined || command.rate !== undefined))
    throw new InvalidArgumentError(
      'redrive takes either ids or --status and other filters, --rate and --limit: with both it is not clear which rows are meant.',
    );
  const able = all.filter(({ actions, redrivable }) => actions.redrive && (status === undefined || redrivable.includes(status)));
  const names = all.map(({ name, redrivable }) => `${name} (${redrivable.join(', ') || 'none'})`).join(', ');
  if (ids.length === 0 && Object.keys(filter).length === 0)
    throw new InvalidArgumentError(
      `redrive needs ids, or --status with a status of rows that can be redriven: ${names}. Another filter, such as --kind, will do, too.`,
    );
  if (able.length === 0)
    throw new InvalidArgumentError(
      status === undefined
        ? 'None of these packages can redrive rows.'
        : `No rows with the status ${status} can be redriven; these can: ${names}.`,
    );
  if (ids.length > 0 && able.length > 1)
    throw new InvalidArgumentError(
      `Ids are counted in each table by itself; name one package with --package: ${able.map(({ name }) => name).join(', ')}.`,
    );
  if (!dryRun && (!command.actor || !command.reason))
    throw new InvalidArgumentError(
      'redrive is written to the audit table: add --actor WHO --reason WHY, or --dry-run to see what it would do.',
    );
  let every = true;
  for (const inspectable of able) {
    const line = (id: string, done: boolean): void =>
      print(`${inspectable.name} ${id}: ${done ? (dryRun ? 'would be redriven' : 'redriven') : 'not redriven, not in a state to be'}`);
    let [count, seen] = [0, 0];
    const bulk = ids.length > 0 ? undefined : inspectable.bulk?.redrive;
    if (bulk) {
      const { limit, rate, actor, reason } = command;
      const counts = await bulk(filter, {
        dryRun,
        ...(limit === undefined ? {} : { limit }),
        ...(rate === undefined ? {} : { rate }),
        ...(actor === undefined ? {} : { actor }),
        ...(reason === undefined ? {} : { reason }),
        onPage: ({ ids, changed }) => {
          for (const id of ids) line(id, dryRun || changed.includes(id));
        },
      });
      [count, seen] = [dryRun ? counts.matched : counts.changed, counts.matched];
    } else
      for await (const { id, redrivable } of ids.length > 0 ? named(inspectable, ids, dryRun) : matching(inspectable, command)) {
        const done = dryRun
          ? redrivable
          : (await inspectable.actions.redrive?.(id, { actor: command.actor ?? '', reason: command.reason ?? '' })) === 1;
        line(id, done);
        seen += 1;
        if (done) count += 1;
        else every = false;
      }
    print(`${inspectable.name}: ${count} of ${seen} ${dryRun ? 'would be redriven' : 'redriven'}`);
  }
  return every || ids.length === 0;
}

interface Target {
  readonly id: string;
  /** True if the row can be redriven. Checked in a dry run only, since the action itself checks it. */
  readonly redrivable: boolean;
}

async function* named(inspectable: Inspectable, ids: readonly string[], dryRun: boolean): AsyncIterable<Target> {
  for (const id of ids) yield { id, redrivable: dryRun && (await canRedrive(inspectable, id)) };
}

/** An id that is a number is that of a row: the row is then the first of a page after the number before. Other ids are passed to `get`. */
async function canRedrive(inspectable: Inspectable, id: string): Promise<boolean> {
  if (inspectable.mayRedrive) return inspectable.mayRedrive(id);
  if (!/^\d+$/.test(id)) return inspectable.redrivable.includes(String((await inspectable.get(id))?.status));
  const number = BigInt(id);
  if (number < 1n) return false;
  for (const status of inspectable.redrivable) {
    const [row] = await inspectable.list({ status, after: (number - 1n).toString(), limit: 1 });
    if (row?.id === number.toString()) return true;
  }
  return false;
}

/** The rows of a package whose `redrive` takes one row at a time. */
async function* matching(inspectable: Inspectable, { filter, limit, rate }: RedriveCommand): AsyncIterable<Target> {
  const { reason, failedAfter, failedBefore, ...query } = filter;
  if (rate ?? reason ?? failedAfter ?? failedBefore)
    throw new InvalidArgumentError(
      `${inspectable.name} redrives one row at a time; leave out --rate, --failed-reason, --failed-after and --failed-before.`,
    );
  let left = limit ?? Number.POSITIVE_INFINITY;
  for (let after: string | undefined; left > 0; ) {
    const size = Math.min(pageRows, left);
    const page: ListQuery = { status: inspectable.redrivable[0] ?? '', ...query, limit: size };
    const rows = await inspectable.list(after === undefined ? page : { ...page, after });
    for (const row of rows) yield { id: String(row.id), redrivable: true };
    left -= rows.length;
    after = String(rows.at(-1)?.id);
    if (rows.length < size) return;
  }
}
