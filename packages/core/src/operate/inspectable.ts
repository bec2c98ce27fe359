/** The person who changes stored work by hand, and the reason. Written to the audit table with the change. */
export interface Actor {
  readonly actor: string;
  readonly reason: string;
}

/** Selects the rows of a page. A package throws for a filter that it does not have, rather than return rows that were not asked for. */
export interface ListQuery {
  /** One of {@link Inspectable.statuses}. Default: every status, or the one that the package names in its own documentation. */
  readonly status?: string;
  /** The type, topic or business status of a row, as the package calls it. */
  readonly kind?: string;
  /** The business key of a row, as the package calls it: the `bizId` of a task, the key of a message. */
  readonly key?: string;
  /** The business key of the timeline that a row belongs to. */
  readonly subject?: string;
  /** The tenant of a row; `''` for rows without one. */
  readonly tenant?: string;
  /** Only rows with a greater id. Ids are 64-bit, hence text. */
  readonly after?: string;
  /** Default 50, at most 1,000. */
  readonly limit?: number;
}

/** Selects the rows of a change in bulk. Without any field: every row in the first of {@link Inspectable.redrivable}. */
export interface BulkFilter extends Omit<ListQuery, 'after' | 'limit'> {
  /** The reason for which a row was given up, as the package calls it: `exhausted`, `rejected`, `poison`. */
  readonly reason?: string;
  /** Only rows that were given up at this time or later. */
  readonly failedAfter?: Date;
  /** Only rows that were given up before this time. */
  readonly failedBefore?: Date;
}

/** Options of a change in bulk. */
export interface BulkOptions {
  /** The person who makes the change, for the audit table. Needed unless `dryRun` is set. */
  readonly actor?: string;
  /** Why they make it, for the audit table. Needed unless `dryRun` is set. */
  readonly reason?: string;
  /** Rows per second at most. Default: no limit. Set it to what the systems that the rows call can take. */
  readonly rate?: number;
  /** Finds and counts the rows, and changes nothing. Default false. */
  readonly dryRun?: boolean;
  /** Rows at most. Default: all. */
  readonly limit?: number;
  /** Continues behind this cursor, the `after` of a page or of earlier counts with the same filter. Default: from the start. */
  readonly after?: string;
  /** Stops between two pages: the call rejects with `signal.reason`. What was changed stays so; `onPage` has the last cursor. */
  readonly signal?: AbortSignal;
  /** Called after each page, of up to 200 rows, has been committed. A dry run has pages of up to 5,000 rows. */
  readonly onPage?: (page: BulkPage) => void;
}

/** One page of a change in bulk. */
export interface BulkPage {
  /** The rows that matched. */
  readonly ids: readonly string[];
  /** The rows that were changed; none in a dry run. A row that another process or person has changed in between stays as it is. */
  readonly changed: readonly string[];
  /** The counts so far. */
  readonly counts: BulkCounts;
}

/** Counts of a change in bulk. */
export interface BulkCounts {
  /** Rows that matched. */
  readonly matched: number;
  /** Rows that were changed; 0 in a dry run. */
  readonly changed: number;
  /** The cursor behind the last row, from which a later call continues; `undefined` if no row is left. */
  readonly after: string | undefined;
}

/** A change of all rows that match. Each page commits with its record in the audit table. */
export type BulkAction = (filter: BulkFilter, options: BulkOptions) => Promise<BulkCounts>;

/** The port through which an operator's tool shows and steers the work of any package. */
export interface Inspectable {
  /** For example `compensate-biz`. */
  readonly name: string;
  /** The statuses that a row may have. */
  readonly statuses: readonly string[];
  /** The statuses of rows that `actions.redrive` takes: rows that were given up. Empty if there is no such action. */
  readonly redrivable: readonly string[];
  /** Returns whether `actions.redrive` takes a row as it is now, for a dry run. Default: a row in one of the statuses of `redrivable`. */
  mayRedrive?(id: string): Promise<boolean>;
  /** Figures for gauges and dashboards. */
  stats(): Promise<readonly Readonly<Record<string, string | number | null>>[]>;
  /** A page by id, ascending. @throws InvalidArgumentError for a status that is not one of `statuses` */
  list(query?: ListQuery): Promise<readonly Readonly<Record<string, unknown>>[]>;
  /** One row with its attempts, or `undefined` if there is none. */
  get(id: string): Promise<Readonly<Record<string, unknown>> | undefined>;
  /** The changes that a person may make to a row or a kind. Each returns the number of rows that it changed. */
  readonly actions: Readonly<Record<string, (target: string, by: Actor) => Promise<number>>>;
  /** The actions that a person may also take for all rows that match a filter. Default none. */
  readonly bulk?: Readonly<Record<string, BulkAction>>;
}
