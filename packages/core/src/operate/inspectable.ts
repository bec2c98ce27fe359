/** The person who changes stored work by hand, and the reason. Written to the audit table with the change. */
export interface Actor {
  readonly actor: string;
  readonly reason: string;
}

/** Selects the rows of a page. */
export interface ListQuery {
  /** One of {@link Inspectable.statuses}. Default: every status, or the one that the package names in its own documentation. */
  readonly status?: string;
  /** The type, topic or business status of a row, as the package calls it. */
  readonly kind?: string;
  /** Only rows with a greater id. Ids are 64-bit, hence text. */
  readonly after?: string;
  /** Default 50, at most 1,000. */
  readonly limit?: number;
}

/** The port through which an operator's tool shows and steers the work of any package. */
export interface Inspectable {
  /** For example `compensate-biz`. */
  readonly name: string;
  /** The statuses that a row may have. */
  readonly statuses: readonly string[];
  /** The statuses of rows that `actions.redrive` takes: rows that were given up. Empty if there is no such action. */
  readonly redrivable: readonly string[];
  /** Figures for gauges and dashboards. */
  stats(): Promise<readonly Readonly<Record<string, string | number | null>>[]>;
  /** A page by id, ascending. @throws InvalidArgumentError for a status that is not one of `statuses` */
  list(query?: ListQuery): Promise<readonly Readonly<Record<string, unknown>>[]>;
  /** One row with its attempts, or `undefined` if there is none. */
  get(id: string): Promise<Readonly<Record<string, unknown>> | undefined>;
  /** The changes that a person may make to a row or a kind. Each returns the number of rows that it changed. */
  readonly actions: Readonly<Record<string, (target: string, by: Actor) => Promise<number>>>;
}
