type Hook = (name: string) => void | Promise<void>;

let hook: Hook | undefined;

/**
 * A named place in the code at which tests wait and the fault harness kills the process. Without a hook, as in production, it costs one
 * comparison.
 */
export function checkpoint(name: string): void | Promise<void> {
  if (hook !== undefined) return hook(name);
}

/** Sets (or, with `undefined`, removes) the hook of {@link checkpoint} in this process. */
export function setCheckpointHook(next: Hook | undefined): void {
  hook = next;
}
