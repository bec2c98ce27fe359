/** The time in ms that the shell's `times` has printed, of itself and its children, with what they spent in the kernel. `null` without it. */
export function processorTime(printed: string): number | null {
  const times = [...printed.matchAll(/(\d+)m(\d+(?:\.\d+)?)s/g)];
  if (times.length === 0) return null;
  return Math.round(times.reduce((ms, [, minutes, seconds]) => ms + Number(minutes) * 60_000 + Number(seconds) * 1_000, 0));
}
