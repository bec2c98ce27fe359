import type { Cgroup, Cgroups } from './cgroup.ts';

/** A user and a cgroup, used for one run after the other. */
export interface Place {
  readonly index: number;
  readonly user: number | undefined;
  readonly cgroup: Cgroup | undefined;
}

/** Sandboxes of this process so far: each has groups of its own, which it removes when it closes. */
let sandboxes = 0;

/** The places of one sandbox. A place is made when all others are taken, and used again. */
export class Places {
  readonly #firstUserId: number | undefined;
  readonly #cgroups: Cgroups | undefined;
  readonly #sandbox = ++sandboxes;
  readonly #made = new Map<number, Cgroup | undefined>();
  readonly #free: number[] = [];
  #count = 0;

  constructor(options: { readonly firstUserId: number | undefined; readonly cgroups: Cgroups | undefined }) {
    this.#firstUserId = options.firstUserId;
    this.#cgroups = options.cgroups;
  }

  /** Every place that is taken is to be given back or discarded. */
  take(): Place {
    const index = this.#free[0] ?? this.#count;
    if (!this.#made.has(index)) this.#made.set(index, this.#cgroups?.create(`${process.pid}-${this.#sandbox}-${index}`));
    // Not before its group exists: if the kernel makes none, the next call tries again.
    if (this.#free.length > 0) this.#free.shift();
    else this.#count += 1;
    return { index, user: this.#firstUserId === undefined ? undefined : this.#firstUserId + index, cgroup: this.#made.get(index) };
  }

  giveBack({ index }: Place): void {
    this.#free.push(index);
  }

  /** Gives back a place whose group can't be used, for example because somebody has removed it. The next user of the place gets a new group. */
  discard({ index, cgroup }: Place): void {
    cgroup?.remove();
    this.#made.delete(index);
    this.#free.push(index);
  }

  close(): void {
    for (const cgroup of this.#made.values()) cgroup?.remove();
    this.#made.clear();
    this.#free.length = 0;
    this.#count = 0;
  }
}
