/** An object of the API, as sent over the wire. */
export interface ApiObject {
  readonly apiVersion: string;
  readonly kind: string;
  metadata: {
    name: string;
    namespace: string;
    uid: string;
    resourceVersion: string;
    creationTimestamp: string;
    deletionTimestamp?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    ownerReferences?: { apiVersion: string; kind: string; name: string; uid: string; controller?: boolean }[];
  };
  spec?: Record<string, unknown>;
  status?: Record<string, unknown>;
  [more: string]: unknown;
}

export interface StoreEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK';
  readonly version: number;
  readonly kind: string;
  readonly object: ApiObject;
}

/** The objects of all kinds, with one counter of versions, and their recent events. */
export class ObjectStore {
  readonly #objects = new Map<string, Map<string, ApiObject>>();
  readonly #listeners = new Set<(event: StoreEvent) => void>();
  #events: StoreEvent[] = [];
  #version = 1_000;
  #forgotten = 0;
  #uids = 0;

  get version(): number {
    return this.#version;
  }

  all(kind: string): ApiObject[] {
    return [...(this.#objects.get(kind)?.values() ?? [])];
  }

  get(kind: string, name: string): ApiObject | undefined {
    return this.#objects.get(kind)?.get(name);
  }

  create(kind: string, namespace: string, body: Record<string, unknown>): ApiObject {
    const metadata = body.metadata as ApiObject['metadata'];
    this.#uids += 1;
    const object = {
      ...body,
      metadata: {
        ...metadata,
        namespace,
        uid: `00000000-0000-4000-8000-${String(this.#uids).padStart(12, '0')}`,
        creationTimestamp: new Date().toISOString().replace(/\.\d+/, ''),
      },
    } as ApiObject;
    this.#put('ADDED', kind, object);
    return object;
  }

  /** Changes an existing object. */
  update(kind: string, name: string, change: (object: ApiObject) => void): ApiObject | undefined {
    const known = this.get(kind, name);
    if (!known) return undefined;
    const next = structuredClone(known);
    change(next);
    this.#put('MODIFIED', kind, next);
    return next;
  }

  remove(kind: string, name: string): void {
    const known = this.get(kind, name);
    if (!known) return;
    this.#objects.get(kind)?.delete(name);
    this.#emit('DELETED', kind, structuredClone(known));
  }

  /** Returns the events after a version, or `undefined` if some of them were dropped. */
  since(kind: string, version: number): StoreEvent[] | undefined {
    return version < this.#forgotten ? undefined : this.#events.filter((event) => event.kind === kind && event.version > version);
  }

  /** Drops all events: later requests for them get 410. */
  compact(): void {
    this.#events = [];
    this.#forgotten = ++this.#version;
  }

  listen(listener: (event: StoreEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #put(type: 'ADDED' | 'MODIFIED', kind: string, object: ApiObject): void {
    const objects = this.#objects.get(kind) ?? new Map<string, ApiObject>();
    this.#objects.set(kind, objects);
    objects.set(object.metadata.name, object);
    this.#emit(type, kind, object);
  }

  #emit(type: StoreEvent['type'], kind: string, object: ApiObject): void {
    this.#version += 1;
    object.metadata.resourceVersion = String(this.#version);
    const event = { type, version: this.#version, kind, object: structuredClone(object) };
    this.#events.push(event);
    for (const listener of this.#listeners) listener(event);
  }
}
