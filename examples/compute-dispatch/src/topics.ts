import { topic } from '@holdfast/outbox';
import { z } from 'zod';

export const batchStates = ['ACCEPTED', 'FILLING', 'FULFILLED', 'PARTIAL', 'FAILED', 'CANCELLED', 'ENDED'] as const;
export type BatchState = (typeof batchStates)[number];
export const slotStates = ['WANTED', 'HELD', 'GRANTED', 'STARTING', 'RUNNING', 'ENDED', 'RETRY_WAIT', 'EXPIRED'] as const;
export type SlotState = (typeof slotStates)[number];

/** A batch has a new state. */
export const batchChanged = z.object({
  batchId: z.string(),
  tenant: z.string(),
  businessOrderNo: z.string(),
  state: z.enum(batchStates),
  atMs: z.number(),
});

/** A slot has a new state that its customer hears of. `news` counts these from 1. */
export const slotChanged = z.object({
  applyId: z.string(),
  batchId: z.string(),
  tenant: z.string(),
  state: z.enum(slotStates),
  machineId: z.string().nullable(),
  news: z.number().int(),
  atMs: z.number(),
});

/** The holder of a machine, for the asset service. A higher epoch is the newer lease. */
export const assetLease = z.object({
  machineId: z.string(),
  applyId: z.string(),
  epoch: z.number().int(),
  active: z.boolean(),
  atMs: z.number(),
});

/** The published topics. Messages with the same key keep their order. */
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
  /** Negative if too much was billed before. */
  ms: z.number().int(),
  amountCents: z.number().int(),
});
export const usageTopic = 'billing.usage.v1';

/** The consumed topic, see `power/event.ts`. */
export const powerTopic = 'machine.power.v1';

export const allTopics: readonly string[] = [...Object.keys(topics), usageTopic, powerTopic];
