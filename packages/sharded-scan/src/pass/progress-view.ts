import type { UnitProgress } from '../walk/progress.ts';
import type { Scan } from './scan.ts';
import type { RunOptions, ScanResult } from './scan-options.ts';

interface ProgressView {
  end(result: ScanResult): void;
  stop(): void;
}

const barWidth = 24;
const lineMs = 5_000;

/** Shows the progress of a run: as a bar that is redrawn in place on a terminal, as a line every 5 s elsewhere. */
// biome-ignore lint/suspicious/noExplicitAny: a scan of rows of any type
export function progressView(scan: Scan<any>, options: Pick<RunOptions, 'only' | 'shard'>, stream: NodeJS.WriteStream): ProgressView {
  const terminal = stream.isTTY === true;
  let stopped = false;
  const off = scan.events.on('unit:ended', ({ unit, how }) => {
    if (!terminal) stream.write(`${scan.name}: ${unit} ${how}\n`);
  });
  const show = async (): Promise<void> => {
    const progress = await scan.progress(options).catch(() => undefined);
    const units = progress?.units ?? [];
    if (stopped || units.length === 0) return;
    const line = summary(scan.name, units, terminal ? (stream.columns ?? 80) - 1 : undefined);
    // Overwrites the previous line and clears the rest of it.
    stream.write(terminal ? `\r${line}\u001b[K` : `${line}\n`);
  };
  const timer = setInterval(() => void show(), terminal ? 200 : lineMs);
  return {
    end(result) {
      this.stop();
      if (terminal) stream.write('\r\u001b[K');
      for (const { unit, state, examined, matched, handled, failed, error } of result.units)
        stream.write(
          `${scan.name}: ${unit} ${state}, ${count(examined)} rows scanned, ${count(matched)} matched, ${count(handled)} handled${failed > 0 ? `, ${count(failed)} failed` : ''}${error ? `: ${error.message}` : ''}\n`,
        );
      const cancelled = result.units.some(({ state }) => state === 'cancelled');
      stream.write(`${scan.name}: pass ${result.pass} ${cancelled ? 'was cancelled' : endings[result.exitCode]}\n`);
    },
    stop() {
      stopped = true;
      clearInterval(timer);
      off();
    },
  };
}

const endings = {
  0: 'is done',
  1: 'is done, with failures; the keys and errors of failed rows are in scan_failure',
  75: 'is unfinished; run it again to continue',
} as const;

/** @param width columns of the terminal; the line then has a bar, and only as many facts as fit */
function summary(name: string, units: readonly UnitProgress[], width: number | undefined): string {
  const sum = (pick: (unit: UnitProgress) => number): number => units.reduce((total, unit) => total + pick(unit), 0);
  const ended = sum(({ state }) => (state === 'done' || state === 'failed' || state === 'cancelled' ? 1 : 0));
  const scanned = sum(({ examined }) => examined);
  // A unit that is not begun is assumed to have as many rows as the mean of those that are.
  const begun = units.filter(({ remaining }) => remaining !== undefined);
  const begunRows = begun.reduce((total, { examined, remaining }) => total + examined + (remaining ?? 0), 0);
  const left = sum(({ remaining }) => remaining ?? (begun.length === 0 ? 0 : begunRows / begun.length));
  const share = begun.length === 0 ? 0 : ended === units.length ? 1 : scanned / Math.max(1, scanned + left);
  const perSecond = sum((unit) => unit.perSecond);
  const failed = sum((unit) => unit.failed);
  const filled = Math.floor(share * barWidth);
  const drawn = width ? ` ${'█'.repeat(filled)}${'░'.repeat(barWidth - filled)}` : '';
  const facts = [
    `${ended}/${units.length} units`,
    `${count(scanned)} scanned`,
    ...(perSecond > 0 ? [`${count(perSecond)}/s`] : []),
    ...(left > 0 && perSecond > 0 ? [`about ${duration(left / perSecond)} left`] : []),
    `${count(sum(({ handled }) => handled))} handled`,
    ...(failed > 0 ? [`${count(failed)} failed`] : []),
  ];
  let line = `${name}${drawn} ${Math.floor(share * 100)}%  ${facts.shift()}`;
  for (const fact of facts) if (width === undefined || line.length + fact.length + 2 <= width) line += `, ${fact}`;
  return line.slice(0, width);
}

function duration(seconds: number): string {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  if (seconds < 3_600) return `${Math.ceil(seconds / 60)} min`;
  return `${(seconds / 3_600).toFixed(1)} h`;
}

function count(n: number): string {
  return n.toLocaleString('en');
}
