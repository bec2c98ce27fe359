import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import { snapshot } from './state.ts';

/** States of a machine, in the order of the legend. */
const shown = {
  RUNNING: 'running',
  STARTING: 'starting',
  GRANTED: 'granted',
  HELD: 'reserved',
  RELEASING: 'being released',
  FREE: 'free',
  DOWN: 'out of service',
} as const;
type MachineState = keyof typeof shown;

export function Room() {
  const machines = snapshot.value?.machines;
  if (!machines) return null;
  const counts = new Map<string, number>();
  for (const { state } of machines) counts.set(state, (counts.get(state) ?? 0) + 1);
  return (
    <section aria-labelledby="room-title">
      <h2 id="room-title">Room</h2>
      <ul id="legend" aria-label="how many machines are in which state">
        {(Object.keys(shown) as MachineState[]).map((state) => (
          <li key={state}>
            <span class="swatch" data-state={state} aria-hidden="true" />
            {shown[state]} <strong>{counts.get(state) ?? 0}</strong>
          </li>
        ))}
      </ul>
      <ul id="room" aria-label="machines">
        {machines.map(({ id, packageId, state }) => {
          const says = `${id}, ${packageId}: ${shown[state as MachineState] ?? state.toLowerCase()}`;
          return <li key={id} data-state={state} title={says} aria-label={says} />;
        })}
      </ul>
      <Chart running={counts.get('RUNNING') ?? 0} leased={machines.length - (counts.get('FREE') ?? 0) - (counts.get('DOWN') ?? 0)} />
    </section>
  );
}

const points = 240;
const history: [number[], number[], number[]] = [[], [], []];

/** The last minutes: how many machines ran, and how many somebody had. */
function Chart({ running, leased }: { readonly running: number; readonly leased: number }) {
  const place = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | undefined>(undefined);
  const latest = useRef({ running, leased });
  latest.current = { running, leased };
  useEffect(() => {
    const element = place.current as HTMLDivElement;
    const colour = (name: string): string => getComputedStyle(element).getPropertyValue(name).trim();
    const make = (): void => {
      chart.current?.destroy();
      const axis = {
        stroke: () => colour('--chart-ink'),
        grid: { stroke: () => colour('--chart-line'), width: 1 },
        ticks: { show: false },
      };
      chart.current = new uPlot(
        {
          width: element.clientWidth,
          height: 130,
          legend: { show: false },
          cursor: { show: false },
          scales: { y: { range: (_chart, _min, max) => [0, Math.max(4, max)] } },
          axes: [
            { ...axis, space: 90, values: (_chart, splits) => splits.map((at) => new Date(at * 1_000).toLocaleTimeString()) },
            { ...axis, size: 36 },
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
    };
    make();
    const resized = new ResizeObserver(() => chart.current?.setSize({ width: element.clientWidth, height: 130 }));
    resized.observe(element);
    const scheme = matchMedia('(prefers-color-scheme: dark)');
    scheme.addEventListener('change', make);
    const timer = setInterval(() => {
      history[0].push(Date.now() / 1_000);
      history[1].push(latest.current.leased);
      history[2].push(latest.current.running);
      for (const series of history) if (series.length > points) series.shift();
      chart.current?.setData(history);
    }, 1_000);
    return () => {
      clearInterval(timer);
      resized.disconnect();
      scheme.removeEventListener('change', make);
      chart.current?.destroy();
    };
  }, []);
  return (
    <figure id="chart">
      <div ref={place} role="img" aria-label={`Machines over the last minutes; now ${running} run and ${leased} are leased`} />
      <figcaption>running (filled) and leased (dashed), the last minutes</figcaption>
    </figure>
  );
}
