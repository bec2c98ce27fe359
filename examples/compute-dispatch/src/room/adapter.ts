/** One lease of one machine, as service and room name it. */
export interface LeaseRef {
  /** The permanent name of the lease: a room that is asked twice grants it once. */
  readonly token: string;
  readonly machineId: string;
  /** The number of the lease among those of the machine. A room ignores a number below the highest that it has seen. */
  readonly epoch: number;
}

export interface GrantRequest extends LeaseRef {
  readonly ip: string;
  readonly network: string;
  /** Protocol by which the machine streams its screen. */
  readonly parameters: Readonly<Record<string, string>>;
}

/** The outcome of one request. `unknown`: it may have been carried out; ask again. */
export type GrantResult =
  | { readonly outcome: 'granted'; readonly grantedAtMs: number }
  | { readonly outcome: 'refused'; readonly reason: 'down' | 'busy' | 'stale' }
  | { readonly outcome: 'unknown' };

export type PowerResult = { readonly outcome: 'accepted' | 'stale' | 'unknown' };

export type ReleaseResult =
  | { readonly outcome: 'released'; readonly releasedAtMs: number; readonly power: PowerState | null }
  | { readonly outcome: 'unknown' };

/** A power state, with its time by the room's clock. */
export interface PowerState {
  readonly state: 'ON' | 'OFF';
  readonly sinceMs: number;
  readonly sequence: number;
}

/** A machine as its room lists it. */
export interface ListedMachine {
  readonly machineId: string;
  readonly roomId: string;
  readonly ip: string;
  readonly packageId: string;
  readonly inService: boolean;
  /** The lease that has the machine. */
  readonly lease: (LeaseRef & { readonly power: PowerState | null }) | null;
}

export interface RoomPage {
  /** When the list was made, by the room's clock. */
  readonly atMs: number;
  readonly machines: readonly ListedMachine[];
  /** The start of the next page; `null` on the last page. */
  readonly next: string | null;
}

interface Call {
  readonly signal?: AbortSignal;
}

/**
 * The requests of the service to a machine room. Results are in the order of the requests. For a room that cannot be reached, each result is
 * `unknown`; only `list` throws.
 */
export interface DispatchAdapter {
  grant(requests: readonly GrantRequest[], call?: Call): Promise<readonly GrantResult[]>;
  /** Asks for machines to be switched. Power events report the result. */
  power(commands: readonly (LeaseRef & { readonly to: 'ON' | 'OFF' })[], call?: Call): Promise<readonly PowerResult[]>;
  /** Ends leases; a running machine is switched off. A token that was never granted is released too, and cannot be granted any more. */
  release(leases: readonly LeaseRef[], call?: Call): Promise<readonly ReleaseResult[]>;
  /** A page of all machines in order of their ids. @throws Error when the room does not answer */
  list(query: { readonly after?: string; readonly limit: number }, call?: Call): Promise<RoomPage>;
}
