import type { Dispatch } from './dispatch.ts';

/** What the page shows. */
interface Snapshot {
  readonly machines: Awaited<ReturnType<Dispatch['room']>>;
  readonly batches: Awaited<ReturnType<Dispatch['batches']>>;
  readonly messages: Awaited<ReturnType<Dispatch['messages']>>;
  readonly scan: Awaited<ReturnType<Dispatch['invoices']['progress']>>;
  readonly tasks: readonly Readonly<Record<string, unknown>>[];
}

/** One look at the database per process and second, shared by all pages that are open; none while no page is. */
export class Live {
  readonly #dispatch: Dispatch;
  readonly #listeners = new Set<(data: string) => void>();
  #timer: NodeJS.Timeout | undefined;
  #last = '';

  constructor(dispatch: Dispatch) {
    this.#dispatch = dispatch;
  }

  /** Sends the state now and at each change; returns the function that ends it. */
  follow(listener: (data: string) => void): () => void {
    this.#listeners.add(listener);
    if (this.#last) listener(this.#last);
    this.#timer ??= setInterval(() => void this.#look(), 300);
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size > 0) return;
      clearInterval(this.#timer);
      this.#timer = undefined;
      this.#last = '';
    };
  }

  async #look(): Promise<void> {
    try {
      const snapshot: Snapshot = {
        machines: await this.#dispatch.room(),
        batches: await this.#dispatch.batches('demo', 20),
        messages: await this.#dispatch.messages(),
        scan: await this.#dispatch.invoices.progress(),
        tasks: await this.#dispatch.biz.inspect().stats(),
      };
      const data = JSON.stringify(snapshot);
      if (data === this.#last) return;
      this.#last = data;
      for (const listener of this.#listeners) listener(data);
    } catch {
      // The next look shows it; the page says itself that it has lost touch.
    }
  }
}
