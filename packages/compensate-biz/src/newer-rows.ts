/** Which rows of a version newer than this process knows were met, by type, until somebody asks. */
export class NewerRows {
  readonly #ids = new Map<string, Set<string>>();

  add(type: string, id: string): void {
    const ids = this.#ids.get(type) ?? new Set();
    this.#ids.set(type, ids);
    if (ids.size < 100_000) ids.add(id);
  }

  /** How many there were since the last call. */
  take(type: string): number {
    const count = this.#ids.get(type)?.size ?? 0;
    this.#ids.delete(type);
    return count;
  }
}
