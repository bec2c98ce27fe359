/** One round: work per second, by contestant. */
export type Round = Readonly<Record<string, number>>;

/** One case: rounds in which every contestant ran once, on the same server, one after another. */
export interface Result {
  readonly bench: string;
  readonly unit: string;
  readonly rounds: readonly Round[];
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? (sorted[middle] ?? Number.NaN) : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}

/** Prints a case: as one JSON line, or as a small table with medians, minimum and maximum. `ours` and `raw` are contestants; all others are peers. */
export function report(result: Result, json: boolean): void {
  const names = Object.keys(result.rounds[0] ?? {});
  const peers = names.filter((name) => name !== 'ours' && name !== 'raw');
  const of = (name: string): number[] => result.rounds.flatMap((round) => (round[name] === undefined ? [] : [round[name]]));
  const ratio = (against: (round: Round) => number | undefined): number | undefined => {
    const ratios = result.rounds.flatMap((round) => {
      const other = against(round);
      return other === undefined || round.ours === undefined ? [] : [round.ours / other];
    });
    return ratios.length === 0 ? undefined : Number(median(ratios).toFixed(2));
  };
  const vsBestPeer = peers.length === 0 ? undefined : ratio((round) => Math.max(...peers.map((name) => round[name] ?? 0)));
  const vsRaw = names.includes('raw') ? ratio((round) => round.raw) : undefined;
  if (json) {
    const figures = Object.fromEntries(peers.map((name) => [name, Math.round(median(of(name)))]));
    const raw = names.includes('raw') ? Math.round(median(of('raw'))) : null;
    console.log(
      JSON.stringify({
        bench: result.bench,
        unit: result.unit,
        ours: Math.round(median(of('ours'))),
        raw,
        peers: figures,
        vsBestPeer: vsBestPeer ?? null,
        vsRaw: vsRaw ?? null,
      }),
    );
    return;
  }
  console.log(`\n${result.bench}  (${result.unit}, ${result.rounds.length} rounds: median, min, max)`);
  for (const name of names) {
    const values = of(name);
    console.log(
      `  ${name.padEnd(28)} ${count(median(values)).padStart(10)} ${count(Math.min(...values)).padStart(10)} ${count(Math.max(...values)).padStart(10)}`,
    );
  }
  console.log(`  vs best peer ${vsBestPeer ?? '-'}   vs raw ${vsRaw ?? '-'}`);
}

function count(value: number): string {
  return Math.round(value).toLocaleString('en');
}

/** Runs `rounds` rounds of all contestants in turn, in an order that rotates, so that none is always first. */
export async function rounds(
  bench: string,
  unit: string,
  times: number,
  contestants: Readonly<Record<string, () => Promise<number>>>,
  json: boolean,
): Promise<Result> {
  const names = Object.keys(contestants);
  const done: Round[] = [];
  for (let round = 0; round < times; round++) {
    const figures: Record<string, number> = {};
    for (let i = 0; i < names.length; i++) {
      const name = names[(i + round) % names.length] ?? '';
      figures[name] = (await contestants[name]?.()) ?? Number.NaN;
    }
    done.push(Object.fromEntries(names.map((name) => [name, figures[name] ?? Number.NaN])));
  }
  const result = { bench, unit, rounds: done };
  report(result, json);
  return result;
}
