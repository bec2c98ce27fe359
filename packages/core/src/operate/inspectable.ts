/** Who does something to stored work by hand, and why. Written to the audit table with the change. */
export interface Actor {
  readonly actor: string;
  readonly reason: string;
}

/** Which rows, from which one on, and how many. */
export interface ListQuery {
  readonly status?: string;
  readonly kind?: string;
  /** Only rows with a greater id. Ids are 64-bit, hence text. */
  readonly after?: string;
  /** Default 50, at most 1,000. */
  readonly limit?: number;
}

/** The port through which an operator's tool sees and mends any package. */
export interface Inspectable {
  /** For example `compensate-biz`. */
  readonly name: string;
  /** Figures for gauges and dashboards. */
  stats(): Promise<readonly Readonly<Record<string, string | number | null>>[]>;
  /** A page by id, ascending. */
  list(query?: ListQuery): Promise<readonly Readonly<Record<string, unknown>>[]>;
  /** One row with its attempts. */
  get(id: string): Promise<Readonly<Record<string, unknown>> | undefined>;
  /** What can be done to a row or kind; each returns how many rows it changed. */
  readonly actions: Readonly<Record<string, (target: string, by: Actor) => Promise<number>>>;
}
