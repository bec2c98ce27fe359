import { topic } from '@holdfast/outbox';
import { z } from 'zod';

/** A batch came into a state. */
export const batchChanged = z.object({
  batchId: z.string(),
  tenant: z.string(),
  businessOrderNo: z.string(),
  state: z.enum(['ACCEPTED', 'FILLING', 'FULFILLED', 'PARTIAL', 'FAILED']),
  atMs: z.number(),
});

/** A slot came into a state, or its machine was switched on or off. */
export const slotChanged = z.object({
  applyId: z.string(),
  batchId: z.string(),
  state: z.enum(['GRANTED', 'EXPIRED']),
  machineId: z.string().nullable(),
  power: z.enum(['ON', 'OFF']).nullable(),
  atMs: z.number(),
});

/** What the asset service must know of a machine: whose it is, and since which grant. A higher version is the newer one. */
export const assetLease = z.object({
  machineId: z.string(),
  applyId: z.string(),
  active: z.boolean(),
  atMs: z.number(),
});

/** From the room, as a real one sends it: late, twice, in any order. */
export const machinePower = z.object({
  machineId: z.string(),
  applyId: z.string(),
  power: z.enum(['ON', 'OFF']),
  occurredAtMs: z.number(),
  sequence: z.number().int(),
});

/** What goes out. The key is what the order matters of. */
export const topics = {
  'dispatch.batch': topic(batchChanged, { key: ({ batchId }) => batchId }),
  'dispatch.slot': topic(slotChanged, { key: ({ applyId }) => applyId }),
  'asset.lease.v1': topic(assetLease, { key: ({ machineId }) => machineId }),
};

/** A time in which a machine ran, and what it costs. Sent when its invoice has committed, not through the outbox. */
export const usageInvoice = z.object({
  invoiceId: z.string(),
  tenant: z.string(),
  applyId: z.string(),
  machineId: z.string(),
  packageId: z.string(),
  fromMs: z.number(),
  toMs: z.number(),
  amountCents: z.number().int(),
});
export const usageTopic = 'billing.usage.v1';

/** What comes in. */
export const powerTopic = 'machine.power.v1';

export const allTopics: readonly string[] = [...Object.keys(topics), usageTopic, powerTopic];
