import { parseArgs } from 'node:util';
import { InvalidArgumentError } from '@holdfast/core';
import { progressView } from './progress-view.ts';
import type { Scan } from './scan.ts';
import type { RunOptions } from './scan-options.ts';

const usage = '[--only 1,2 | --shard INDEX/TOTAL] [--failed]';

/**
 * Makes a scan a job of `holdfast.config.ts`: `jobs: { 'invoice-mq': scanJob(invoices) }`, then `holdfast run invoice-mq --only 1,2`. The
 * job shows its progress on `stream` (default: standard error), as a bar on a terminal and as lines elsewhere. SIGTERM and SIGINT end it
 * after the current batches. With `--failed` it hands the rows over again that failed, by `redriveFailed`, and begins no pass. It sets the exit
 * code: 0 if all is done, 1 if units or rows failed, 75 if the pass is unfinished and must be
 * run again.
 */
// biome-ignore lint/suspicious/noExplicitAny: a scan of rows of any type
export function scanJob(scan: Scan<any>, stream: NodeJS.WriteStream = process.stderr): (args: readonly string[]) => Promise<void> {
  return async (args) => {
    const { failed, ...options } = readArgs(args);
    const stop = new AbortController();
    const end = (): void => stop.abort(new Error('the process received SIGTERM or SIGINT'));
    process.once('SIGTERM', end);
    process.once('SIGINT', end);
    const view = failed ? undefined : progressView(scan, options, stream);
    try {
      if (view === undefined) {
        const { handled, failed: again, gone, left, exitCode } = await scan.redriveFailed({ ...options, signal: stop.signal });
        const open = left.length > 0 ? `; left in ${left.join(', ')}` : '';
        stream.write(`${scan.name}: of the failed rows, ${handled} handled, ${again} failed again, ${gone} gone${open}\n`);
        process.exitCode = exitCode;
        return;
      }
      const result = await scan.run({ ...options, signal: stop.signal });
      view.end(result);
      process.exitCode = result.exitCode;
    } finally {
      view?.stop();
      process.removeListener('SIGTERM', end);
      process.removeListener('SIGINT', end);
    }
  };
}

/** @throws InvalidArgumentError */
function readArgs(args: readonly string[]): Pick<RunOptions, 'only' | 'shard'> & { readonly failed: boolean } {
  let values: { only?: string | undefined; shard?: string | undefined; failed?: boolean | undefined };
  try {
    ({ values } = parseArgs({
      args: [...args],
      options: { only: { type: 'string' }, shard: { type: 'string' }, failed: { type: 'boolean' } },
    }));
  } catch (error) {
    throw new InvalidArgumentError(`${(error as Error).message} A scan takes ${usage}.`);
  }
  const { only, shard, failed = false } = values;
  if (shard === undefined) return only === undefined ? { failed } : { only, failed };
  const [, index, total] = /^(\d{1,6})\/(\d{1,6})$/.exec(shard) ?? [];
  if (index === undefined || total === undefined)
    throw new InvalidArgumentError(`--shard is ${JSON.stringify(shard)}; give an index and a total, as in 0/3.`);
  return { failed, shard: [Number(index), Number(total)], ...(only === undefined ? {} : { only }) };
}
