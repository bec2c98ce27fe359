import { init } from 'echarts';
import type { Line } from './results.ts';

/** Placeholders for colours that the style sheet of the drawing sets, for light and for dark. */
const ink = { text: '#010101', muted: '#020202', grid: '#030303', ours: '#040404', raw: '#050505', peer: '#060606' };
const light = { text: '#1f2328', muted: '#59636e', grid: '#d1d9e0', ours: '#0b7a62', raw: '#8c959f', peer: '#c2a05a', paper: '#ffffff' };
const dark = { text: '#e6edf3', muted: '#9198a1', grid: '#3d444d', ours: '#3cbb9c', raw: '#6e7681', peer: '#b08a3e', paper: '#1b1b1f' };

/** Draws cases as bars, ours as 100 of each. Readable on light and on dark paper: as an image it follows the reader's system, in our site the site. */
export function plot(title: string, lines: readonly Line[]): string {
  const rows: { readonly label: string; readonly value: number | null; readonly shown: string; readonly colour: string }[] = [];
  for (const { bench, unit, ours, raw, peers } of lines) {
    if (ours === undefined) continue;
    rows.push({ label: `{case|${bench}}`, value: null, shown: '', colour: ink.text });
    const contestants: [string, number, string][] = [['ours', ours, ink.ours]];
    if (typeof raw === 'number') contestants.push(['raw', raw, ink.raw]);
    for (const [name, value] of Object.entries(peers ?? {})) contestants.push([name, value, ink.peer]);
    for (const [name, value, colour] of contestants)
      rows.push({ label: name, value: (value / ours) * 100, shown: `${value.toLocaleString('en')} ${shortUnit(unit)}`, colour });
  }
  const height = 70 + rows.length * 24;
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: 860, height });
  chart.setOption({
    animation: false,
    title: { text: title, left: 8, top: 6, textStyle: { color: ink.text, fontSize: 15, fontWeight: 600 } },
    grid: { left: 250, right: 150, top: 40, bottom: 24 },
    xAxis: { type: 'value', axisLabel: { color: ink.muted, formatter: '{value}' }, splitLine: { lineStyle: { color: ink.grid } } },
    yAxis: {
      type: 'category',
      inverse: true,
      data: rows.map(({ label }) => label),
      axisTick: { show: false },
      axisLine: { lineStyle: { color: ink.grid } },
      axisLabel: { color: ink.muted, fontSize: 12, interval: 0, rich: { case: { color: ink.text, fontWeight: 600, fontSize: 12 } } },
    },
    series: [
      {
        type: 'bar',
        barWidth: 14,
        data: rows.map(({ value, colour, shown }) => ({
          value,
          itemStyle: { color: colour },
          label: { show: value !== null, position: 'right', color: ink.muted, fontSize: 12, formatter: shown },
        })),
      },
    ],
  });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return coloured(svg, height);
}

function shortUnit(unit = ''): string {
  return /^\S*\/s/.exec(unit)?.[0] ?? /\b\S+\/s/.exec(unit)?.[0] ?? unit;
}

/** Replaces the colours in the drawing by classes and a style sheet. */
function coloured(svg: string, height: number): string {
  let text = svg.replace(/<rect width="\d+" height="\d+" x="0" y="0"[^>]*fill="none"[^>]*><\/rect>/, '');
  for (const [name, placeholder] of Object.entries(ink)) text = text.replaceAll(placeholder, `var(--${name})`);
  const rules = (colours: Readonly<Record<string, string>>): string =>
    Object.entries(colours)
      .map(([name, value]) => `--${name}:${value}`)
      .join(';');
  const style = `<style>svg{${rules(light)};font-family:system-ui,sans-serif}@media(prefers-color-scheme:dark){svg{${rules(dark)}}}text{font-family:system-ui,sans-serif}</style><rect width="860" height="${height}" rx="8" style="fill:var(--paper)"/>`;
  return text.replace(/(<svg[^>]*>)/, `$1${style}`);
}
