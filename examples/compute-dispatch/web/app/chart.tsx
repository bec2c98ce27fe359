import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import { snapshot } from './state.ts';

const minutes = 5;
const height = 180;
const history: [number[], number[], number[]] = [[], [], []];

// Goes on while another tab is shown, so that the chart has no gap.
setInterval(() => {
  const machines = snapshot.value?.machines;
  if (!machines) return;
  const { running, leased } = countOf(machines);
  history[0].push(Date.now() / 1_000);
  history[1].push(leased);
  history[2].push(running);
  while ((history[0][0] ?? Number.POSITIVE_INFINITY) < Date.now() / 1_000 - minutes * 60 - 2) for (const series of history) series.shift();
}, 1_000);

function countOf(machines: readonly { readonly state: string }[]): { readonly running: number; readonly leased: number } {
  return {
    running: machines.filter(({ state }) => state === 'RUNNING').length,
    leased: machines.filter(({ state }) => state !== 'FREE' && state !== 'DOWN').length,
  };
}

/** Five minutes: how many machines ran, and how many somebody had. */
export function Chart() {
  return snapshot.value?.machines ? <Drawing /> : null;
}

function Drawing() {
  const place = useRef<HTMLDivElement>(null);
  const { running, leased } = countOf(snapshot.value?.machines ?? []);
  useEffect(() => {
    const element = place.current as HTMLDivElement;
    let chart: uPlot | undefined;
    const make = (): void => {
      chart?.destroy();
      chart = draw(element);
    };
    make();
    const resized = new ResizeObserver(() => chart?.setSize({ width: element.clientWidth, height }));
    resized.observe(element);
    const scheme = matchMedia('(prefers-color-scheme: dark)');
    scheme.addEventListener('change', make);
    const timer = setInterval(() => chart?.setData(history), 1_000);
    return () => {
      clearInterval(timer);
      resized.disconnect();
      scheme.removeEventListener('change', make);
      chart?.destroy();
    };
  }, []);
  return (
    <section aria-labelledby="chart-title">
      <h2 id="chart-title">The last five minutes</h2>
      <figure id="chart">
        <div ref={place} role="img" aria-label={`Machines over the last five minutes; now ${running} run and ${leased} are leased`} />
        <figcaption>
          <span class="key" data-key="running">
            {running} running
          </span>
          <span class="key" data-key="leased">
            {leased} leased
          </span>
        </figcaption>
      </figure>
    </section>
  );
}

/** Each minute has a tick of its own, counted back from now; the left edge is always five minutes ago. */
function draw(element: HTMLElement): uPlot {
  const colour = (name: string): string => getComputedStyle(element).getPropertyValue(name).trim();
  const axis = { stroke: () => colour('--chart-ink'), grid: { stroke: () => colour('--chart-line'), width: 1 }, ticks: { show: false } };
  const now = (): number => Date.now() / 1_000;
  return new uPlot(
    {
      width: element.clientWidth,
      height,
      legend: { show: false },
      cursor: { show: false },
      scales: {
        x: { range: () => [now() - minutes * 60, now()] },
        y: { range: (_chart, _min, max) => [0, Math.max(4, Math.ceil(max * 1.1))] },
      },
      axes: [
        {
          ...axis,
          size: 28,
          splits: (_chart, _axis, min, max) => Array.from({ length: minutes + 1 }, (_, i) => min + ((max - min) * i) / minutes),
          values: (_chart, splits) => splits.map((_, i) => (i === minutes ? 'now' : `−${minutes - i}${i === 0 ? ' min' : ''}`)),
        },
        { ...axis, size: 36, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000] },
      ],
      series: [
        {},
        { stroke: () => colour('--chart-leased'), width: 2, dash: [4, 3], points: { show: false } },
        { stroke: () => colour('--chart-running'), width: 2, fill: () => colour('--chart-fill'), points: { show: false } },
      ],
    },
    history,
    element,
  );
}
