import type { BatchState, SlotState } from './topics.ts';

export interface BatchNews {
  readonly batchId: string;
  readonly tenant: string;
  readonly businessOrderNo: string;
  readonly state: BatchState;
}

export interface SlotNews {
  readonly applyId: string;
  readonly batchId: string;
  readonly tenant: string;
  readonly state: SlotState;
  readonly machineId: string | null;
  /** The number of announcements about the slot, including this one. */
  readonly news: number;
}

export interface AssetNews {
  readonly machineId: string;
  readonly applyId: string;
  readonly epoch: number;
  readonly active: boolean;
}

export interface News {
  readonly batches?: readonly BatchNews[];
  readonly slots?: readonly SlotNews[];
  readonly assets?: readonly AssetNews[];
}
