import { wait } from '../time/wait.ts';

/** Waits for a fact: calls `check` every 10 ms until it returns a value other than `undefined` or `false`. Throws after `withinMs` (20,000). */
export async function until<T>(
  check: () => T | undefined | false | Promise<T | undefined | false>,
  options: { readonly withinMs?: number; readonly what?: string } = {},
): Promise<T> {
  const withinMs = options.withinMs ?? 20_000;
  const started = performance.now();
  for (;;) {
    const value = await check();
    if (value !== undefined && value !== false) return value;
    if (performance.now() - started > withinMs) throw new Error(`not within ${withinMs} ms: ${options.what ?? check.toString()}`);
    await wait(10);
  }
}
