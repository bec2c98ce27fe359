import { topic } from '@holdfast/outbox';
import { z } from 'zod';

export const batchStates = ['ACCEPTED', 'FILLING', 'FULFILLED', 'PARTIAL', 'FAILED', 'CANCELLED', 'ENDED'] as const;
export type BatchState = (typeof batchStates)[number];
export const slotStates = ['WANTED', 'HELD', 'GRANTED', 'STARTING', 'RUNNING', 'ENDED', 'RETRY_WAIT', 'EXPIRED'] as const;
export type SlotState = (typeof slotStates)[number];

/** A batch came into a state. */
export const batchChanged = z.object({
  batchId: z.string(),
  tenant: z.string(),
  businessOrderNo: z.string(),
  state: z.enum(batchStates),
  atMs: z.number(),
});

/** A slot came into a state that its customer hears of. `news` counts them from 1. */
export const slotChanged = z.object({
  applyId: z.string(),
  batchId: z.string(),
  tenant: z.string(),
  state: z.enum(slotStates),
  machineId: z.string().nullable(),
  news: z.number().int(),
  atMs: z.number(),
});

/** What the asset service must know of a machine: whose it is. A higher epoch is the newer lease. */
export const assetLease = z.object({
  machineId: z.string(),
  applyId: z.string(),
  epoch: z.number().int(),
  active: z.boolean(),
  atMs: z.number(),
});

/** What goes out. The key is what the order matters of. */
export const topics = {
  'dispatch.batch': topic(batchChanged, { key: ({ batchId }) => batchId }),
  'dispatch.slot': topic(slotChanged, { key: ({ applyId }) => applyId }),
  'asset.lease.v1': topic(assetLease, { key: ({ machineId }) => machineId }),
};

/** A line of a bill. Sent when its invoice has committed, not through the outbox. */
export const usageInvoice = z.object({
  invoiceId: z.string(),
  kind: z.enum(['usage', 'adjustment']),
  tenant: z.string(),
  applyId: z.string(),
  machineId: z.string(),
  packageId: z.string(),
  priceVersion: z.number().int(),
  fromMs: z.number(),
  toMs: z.number(),
  /** Negative where too much was billed. */
  ms: z.number().int(),
  amountCents: z.number().int(),
});
export const usageTopic = 'billing.usage.v1';

/** What comes in, see `power/event.ts`. */
export const powerTopic = 'machine.power.v1';

export const allTopics: readonly string[] = [...Object.keys(topics), usageTopic, powerTopic];
