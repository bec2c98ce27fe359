/** One lease of one machine, as service and room name it. */
export interface LeaseRef {
  /** Names the lease for good: asked twice, a room grants once. */
  readonly token: string;
  readonly machineId: string;
  /** Counts the leases of the machine. A room does nothing for a lower one than it has seen. */
  readonly epoch: number;
}

export interface GrantRequest extends LeaseRef {
  readonly ip: string;
  readonly network: string;
  /** How the machine streams its screen. */
  readonly parameters: Readonly<Record<string, string>>;
}

/** What came of one request. `unknown`: it may have been done, ask again. */
export type GrantResult =
  | { readonly outcome: 'granted'; readonly grantedAtMs: number }
  | { readonly outcome: 'refused'; readonly reason: 'down' | 'busy' | 'stale' }
  | { readonly outcome: 'unknown' };

export type PowerResult = { readonly outcome: 'accepted' | 'stale' | 'unknown' };

export type ReleaseResult =
  | { readonly outcome: 'released'; readonly releasedAtMs: number; readonly power: PowerState | null }
  | { readonly outcome: 'unknown' };

/** Power by the room's clock. */
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
  /** Who has it. */
  readonly lease: (LeaseRef & { readonly power: PowerState | null }) | null;
}

export interface RoomPage {
  /** When the list was made, by the room's clock. */
  readonly atMs: number;
  readonly machines: readonly ListedMachine[];
  /** Where the next page begins; null: this is the last. */
  readonly next: string | null;
}

interface Call {
  readonly signal?: AbortSignal;
}

/**
 * What the service asks of a machine room. Results are in the order of the requests. A room that can't be reached answers `unknown`,
 * item by item; only `list` throws.
 */
export interface DispatchAdapter {
  grant(requests: readonly GrantRequest[], call?: Call): Promise<readonly GrantResult[]>;
  /** Asks for machines to be switched. What becomes of it is told by power events. */
  power(commands: readonly (LeaseRef & { readonly to: 'ON' | 'OFF' })[], call?: Call): Promise<readonly PowerResult[]>;
  /** Ends leases; a machine that runs is switched off. A token that was never granted is released too, and can't be granted any more. */
  release(leases: readonly LeaseRef[], call?: Call): Promise<readonly ReleaseResult[]>;
  /** A page of all machines in order of their ids. @throws Error when the room does not answer */
  list(query: { readonly after?: string; readonly limit: number }, call?: Call): Promise<RoomPage>;
}
