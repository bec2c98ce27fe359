import { signal } from '@preact/signals';
import type { BatchView } from '../../src/batches/views.ts';
import type { Verdict } from '../../src/invariants.ts';
import type { ScanView } from '../../src/invoices.ts';
import type { Misbehaviour } from '../../src/room/simulator/misbehaviour.ts';
import type { TenantView } from '../../src/tenants/tenants.ts';

/** State that the service sends whole after each change. The last six members are for operators. */
export interface Snapshot {
  readonly batches: readonly BatchView[];
  readonly tenant?: TenantView;
  readonly machines?: readonly { readonly id: string; readonly packageId: string; readonly state: string }[];
  readonly figures?: Readonly<Record<string, number>>;
  readonly scan?: ScanView;
  readonly misbehaviour?: Misbehaviour;
  readonly invariants?: readonly Verdict[];
}

/** Whose page this is. `undefined`: not asked yet; `null`: nobody's. */
export const session = signal<{ readonly admin: boolean; readonly tenant: string } | null | undefined>(undefined);
export const snapshot = signal<Snapshot | undefined>(undefined);
export const touch = signal('connecting …');
