import { monotonicMs } from '@holdfast/core';
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
  const started = monotonicMs();
  let handledHere = 0;
  let stopped = false;
  const ends = [
    scan.events.on('batch:handled', ({ handled }) => {
      handledHere += handled;
    }),
    scan.events.on('unit:ended', ({ unit, how }) => {
      if (!terminal) stream.write(`${scan.name}: ${unit} ${how}\n`);
    }),
  ];
  const show = async (): Promise<void> => {
    const units = await scan.progress(options).catch(() => []);
    if (stopped || units.length === 0) return;
    const perSecond = Math.round(handledHere / Math.max(0.001, (monotonicMs() - started) / 1_000));
    const line = summary(scan.name, units, perSecond, terminal);
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
      for (const end of ends.splice(0)) end();
    },
  };
}

const endings = { 0: 'is done', 1: 'is done, with failures', 75: 'is broken off; run it again to go on' } as const;

function summary(name: string, units: readonly UnitProgress[], perSecond: number, bar: boolean): string {
  const done = units.filter(({ state }) => state === 'done' || state === 'failed').length;
  const sum = (pick: (unit: UnitProgress) => number): number => units.reduce((total, unit) => total + pick(unit), 0);
  const failed = sum((unit) => unit.failed);
  const filled = Math.round((done / units.length) * barWidth);
  const drawn = bar ? ` ${'█'.repeat(filled)}${'░'.repeat(barWidth - filled)}` : '';
  const at = units
    .filter(({ state, position }) => state === 'running' && position)
    .slice(0, 2)
    .map(({ unit, position }) => `${unit} at ${position?.join(',')}`)
    .join(', ');
  return `${name}${drawn} ${done}/${units.length} units, ${count(sum((unit) => unit.examined))} scanned, ${count(sum((unit) => unit.handled))} handled, ${count(perSecond)}/s here${failed > 0 ? `, ${count(failed)} failed` : ''}${at ? `; ${at}` : ''}`;
}

function count(n: number): string {
  return n.toLocaleString('en');
}
