import type { z } from 'zod';
import type { TrueLease } from '../invariants.ts';
import type { misbehaviour } from './simulator/misbehaviour.ts';

/** What a simulated room has besides a real one: how it misbehaves, and which leases it really holds. */
export interface RoomControls {
  get(): Promise<z.infer<typeof misbehaviour>>;
  set(change: Partial<z.infer<typeof misbehaviour>>): Promise<z.infer<typeof misbehaviour>>;
  truth(): Promise<readonly TrueLease[]>;
}
