import { z } from 'zod';

export const powerKinds = ['ON', 'OFF', 'ON_FAILED', 'OFF_FAILED'] as const;
export type PowerKind = (typeof powerKinds)[number];

/** A power event of the room, on `machine.power.v1` or over HTTP. It may come late, twice, and in any order. */
export const powerEvent = z.object({
  /** The same in every repetition. */
  eventId: z.string().min(1).max(150),
  roomId: z.string().min(1).max(40),
  machineId: z.string().min(1).max(40),
  /** The token of the lease. */
  token: z.string().min(1).max(40),
  /** The number of the lease among those of its machine, counted by the service. */
  epoch: z.number().int().min(0).max(2_147_483_647),
  kind: z.enum(powerKinds),
  /** By the room's clock. */
  occurredAtMs: z.number().int().min(0).max(8_640_000_000_000_000),
  /** The number of the event among those of its machine. */
  sequence: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
});
export type PowerEvent = z.infer<typeof powerEvent>;

/**
 * The source of an event: the room, at the time; its listing, later; its answer to a release; or the service itself (`provisional`), if
 * the power-off of a lease was lost.
 */
export const powerSources = ['room', 'listing', 'release', 'provisional'] as const;
export type PowerSource = (typeof powerSources)[number];

export interface StoredPowerEvent {
  readonly id: string;
  readonly kind: PowerKind;
  readonly source: PowerSource;
  readonly occurredMs: number;
  readonly sequence: number;
}
