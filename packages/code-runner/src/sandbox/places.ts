import type { Cgroup, Cgroups } from './cgroup.ts';

/** A user and a cgroup, used for one run after the other. */
export interface Place {
  readonly index: number;
  readonly user: number | undefined;
  readonly cgroup: Cgroup | undefined;
}

/** The places of one sandbox. A place is made when all others are taken, and used again. */
export class Places {
  readonly #firstUserId: number | undefined;
  readonly #cgroups: Cgroups | undefined;
  readonly #all: Place[] = [];
  readonly #free: Place[] = [];

  constructor(options: { readonly firstUserId: number | undefined; readonly cgroups: Cgroups | undefined }) {
    this.#firstUserId = options.firstUserId;
    this.#cgroups = options.cgroups;
  }

  take(): Place {
    const free = this.#free.shift();
    if (free) return free;
    const index = this.#all.length;
    const place: Place = {
      index,
      user: this.#firstUserId === undefined ? undefined : this.#firstUserId + index,
      cgroup: this.#cgroups?.create(`${process.pid}-${index}`),
    };
    this.#all.push(place);
    return place;
  }

  giveBack(place: Place): void {
    this.#free.push(place);
  }

  close(): void {
    for (const { cgroup } of this.#all) cgroup?.remove();
    this.#all.length = 0;
    this.#free.length = 0;
  }
}
