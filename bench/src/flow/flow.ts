/** What one contestant of the flow does: `submit` hands over tasks, and `onDone` is called with the number of tasks that have ended. */
export interface FlowContestant {
  /** The table of the tasks, as SQL; `undefined` if there is none. A snapshot is held by a transaction that has read it. */
  readonly table: string | undefined;
  submit(count: number): Promise<void>;
  onDone(listener: (count: number) => void): void;
  stop(): Promise<void>;
}

export interface FlowOptions {
  /** Tasks that are submitted at a time. */
  readonly by: number;
  /** Tasks that wait at most. */
  readonly waiting: number;
  readonly windows: number;
  readonly windowMs: number;
  /** Called after the last window, before the contestant stops. */
  readonly onEnd?: (() => Promise<void>) | undefined;
}

/**
 * Submits tasks and runs them at the same time, as a service does for months, with a bounded number of tasks that wait. Returns tasks per
 * second in each window. A flow that falls from window to window pays for the tasks that have ended.
 */
export async function flow(contestant: FlowContestant, { by, waiting, windows, windowMs, onEnd }: FlowOptions): Promise<number[]> {
  let submitted = 0;
  let done = 0;
  let room: () => void = () => undefined;
  contestant.onDone((count) => {
    done += count;
    if (submitted - done < waiting) room();
  });
  let open = true;
  const submitting = (async () => {
    while (open) {
      if (submitted - done >= waiting) await new Promise<void>((resolve) => (room = resolve));
      submitted += by;
      await contestant.submit(by);
    }
  })();
  const rates: number[] = [];
  for (let i = 0; i < windows; i++) {
    const [before, at] = [done, performance.now()];
    await new Promise((resolve) => setTimeout(resolve, windowMs));
    rates.push(Math.round((done - before) / ((performance.now() - at) / 1000)));
  }
  open = false;
  room();
  await submitting;
  await onEnd?.();
  await contestant.stop();
  return rates;
}
