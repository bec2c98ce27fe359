import type { Dispatch } from '../dispatch.ts';
import type { RoomControls } from '../room/room-controls.ts';

export interface Viewer {
  readonly tenant: string;
  readonly admin: boolean;
}

/** The largest number of machines that a page shows. */
const mostMachines = 2_000;
const readMs = 300;
const invariantsMs = 3_000;

/**
 * The live view of the pages. All pages of one viewer share a snapshot, which is read every 0.3 s; nothing is read while no page is open.
 */
export class Live {
  readonly #dispatch: Dispatch;
  readonly #room: RoomControls | undefined;
  readonly #views = new Map<string, { readonly viewer: Viewer; readonly listeners: Set<(data: string) => void>; last: string }>();
  #timer: NodeJS.Timeout | undefined;
  #reading = false;
  #invariants: { readonly atMs: number; readonly value: unknown } | undefined;

  constructor(dispatch: Dispatch, room: RoomControls | undefined) {
    this.#dispatch = dispatch;
    this.#room = room;
  }

  /** Sends the state now and at each change. Returns a function that ends this. */
  follow(viewer: Viewer, listener: (data: string) => void): () => void {
    const key = JSON.stringify(viewer);
    const view = this.#views.get(key) ?? { viewer, listeners: new Set(), last: '' };
    this.#views.set(key, view);
    view.listeners.add(listener);
    if (view.last) listener(view.last);
    this.#timer ??= setInterval(() => void this.#read(), readMs);
    return () => {
      view.listeners.delete(listener);
      if (view.listeners.size === 0) this.#views.delete(key);
      if (this.#views.size > 0) return;
      clearInterval(this.#timer);
      this.#timer = undefined;
    };
  }

  async #read(): Promise<void> {
    if (this.#reading) return;
    this.#reading = true;
    try {
      for (const view of this.#views.values()) {
        const data = JSON.stringify(await this.#snapshot(view.viewer));
        if (data === view.last) continue;
        view.last = data;
        for (const listener of view.listeners) listener(data);
      }
    } catch {
      // The next read tries again; the page itself shows that it has lost the connection.
    } finally {
      this.#reading = false;
    }
  }

  async #snapshot({ tenant, admin }: Viewer): Promise<unknown> {
    const dispatch = this.#dispatch;
    const own = { batches: await dispatch.reader.batches(tenant, 20), tenant: await dispatch.tenants.get(tenant) };
    if (!admin) return own;
    return {
      ...own,
      machines: await dispatch.reader.machines(mostMachines),
      figures: await dispatch.figures(),
      scan: await dispatch.invoices.progress(),
      tasks: await dispatch.biz.inspect().stats(),
      misbehaviour: await this.#room?.get().catch(() => undefined),
      invariants: await this.#verdicts(),
    };
  }

  async #verdicts(): Promise<unknown> {
    const nowMs = performance.now();
    if (!this.#invariants || this.#invariants.atMs < nowMs - invariantsMs) {
      const truth = await this.#room?.truth().catch(() => undefined);
      this.#invariants = { atMs: nowMs, value: await this.#dispatch.invariants.check({ truth }) };
    }
    return this.#invariants.value;
  }
}
