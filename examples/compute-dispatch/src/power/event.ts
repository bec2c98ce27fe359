import { z } from 'zod';

export const powerKinds = ['ON', 'OFF', 'ON_FAILED', 'OFF_FAILED'] as const;
export type PowerKind = (typeof powerKinds)[number];

/** From the room, on `machine.power.v1` or its HTTP ingress: late, twice, in any order. */
export const powerEvent = z.object({
  /** The same in every repetition. */
  eventId: z.string().min(1).max(150),
  roomId: z.string().min(1).max(40),
  machineId: z.string().min(1).max(40),
  /** What the lease was granted under. */
  token: z.string().min(1).max(40),
  /** Which lease of the machine it is, counted by the service. */
  epoch: z.number().int().min(0).max(2_147_483_647),
  kind: z.enum(powerKinds),
  /** By the room's clock. */
  occurredAtMs: z.number().int().min(0).max(8_640_000_000_000_000),
  /** Counts what happened to the machine. */
  sequence: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
});
export type PowerEvent = z.infer<typeof powerEvent>;

/**
 * Who says so: the room, at the time; its listing, later; its answer to a release; or nobody (`provisional`): the service itself, when a
 * lease lost its power-off.
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
