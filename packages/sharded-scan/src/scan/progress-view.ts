import type { RunOptions, Scan, ScanResult } from './scan.ts';
import type { UnitProgress } from './scan-store.ts';

interface ProgressView {
  end(result: ScanResult): void;
  stop(): void;
}

const barWidth = 24;
const lineMs = 5_000;

/** Shows how far a run is: a bar that is drawn over on a terminal, a line now and then elsewhere. */
// biome-ignore lint/suspicious/noExplicitAny: a scan of whatever rows
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
    const line = summary(scan.name, units, terminal);
    // Over what stood there, and nothing left of it.
    stream.write(terminal ? `\r${line.slice(0, (stream.columns ?? 80) - 1)}\u001b[K` : `${line}\n`);
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
      stream.write(`${scan.name}: pass ${result.pass} ${endings[result.exitCode]}\n`);
    },
    stop() {
      stopped = true;
      clearInterval(timer);
      off();
    },
  };
}

const endings = { 0: 'is done', 1: 'is done, with failures', 75: 'is broken off; run it again to go on' } as const;

function summary(name: string, units: readonly UnitProgress[], bar: boolean): string {
  const sum = (pick: (unit: UnitProgress) => number): number => units.reduce((total, unit) => total + pick(unit), 0);
  const ended = sum(({ state }) => (state === 'done' || state === 'failed' ? 1 : 0));
  const scanned = sum(({ examined }) => examined);
  // By rows where all of them are reckoned up, by units before that.
  const known = units.every(({ remaining }) => remaining !== undefined);
  const left = sum(({ remaining }) => remaining ?? 0);
  const share = known ? scanned / Math.max(1, scanned + left) : ended / units.length;
  const perSecond = sum((unit) => unit.perSecond);
  const failed = sum((unit) => unit.failed);
  const filled = Math.floor(share * barWidth);
  const drawn = bar ? ` ${'█'.repeat(filled)}${'░'.repeat(barWidth - filled)}` : '';
  const facts = [
    `${ended}/${units.length} units`,
    `${count(scanned)} scanned`,
    `${count(sum(({ handled }) => handled))} handled`,
    ...(failed > 0 ? [`${count(failed)} failed`] : []),
    ...(perSecond > 0 ? [`${count(perSecond)}/s`] : []),
    ...(known && left > 0 && perSecond > 0 ? [`about ${duration(left / perSecond)} left`] : []),
  ];
  return `${name}${drawn} ${Math.floor(share * 100)}%  ${facts.join(', ')}`;
}

function duration(seconds: number): string {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  if (seconds < 3_600) return `${Math.ceil(seconds / 60)} min`;
  return `${(seconds / 3_600).toFixed(1)} h`;
}

function count(n: number): string {
  return n.toLocaleString('en');
}
