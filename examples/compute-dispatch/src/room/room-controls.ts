import type { z } from 'zod';
import type { TrueLease } from '../invariants.ts';
import type { misbehaviour } from './simulator/misbehaviour.ts';

/** The controls of a simulated room, which a real room does not have: its misbehaviour, and the leases that it really holds. */
export interface RoomControls {
  get(): Promise<z.infer<typeof misbehaviour>>;
  set(change: Partial<z.infer<typeof misbehaviour>>): Promise<z.infer<typeof misbehaviour>>;
  truth(): Promise<readonly TrueLease[]>;
}
