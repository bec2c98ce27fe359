import { z } from 'zod';
import { batchStates, slotStates } from '../topics.ts';

export const policies = ['min_then_fill', 'all_or_nothing', 'best_effort'] as const;

/** Ids are numbers of 64 bits, as text. */
export const id = z
  .string()
  .regex(/^\d{1,19}$/, 'must be an id of digits')
  .refine((text) => text.length < 19 || text <= '9223372036854775807', 'must be an id of 63 bits');
/** No NUL and nothing that a database would refuse or fold. */
const plainText = (max: number) =>
  z
    .string()
    .min(1)
    .max(max)
    .regex(/^[^\p{Cc}\p{Cs}]+$/u, 'must not hold control characters')
    .refine((text) => text === text.trim(), 'must not begin or end with a blank');

export const applyRequest = z.object({
  /** Names the order: the same request again gives the same batch. */
  businessOrderNo: plainText(100),
  packageId: plainText(40),
  count: z.number().int().min(1).max(1_000),
  /** Below it nothing is switched on. */
  minimum: z.number().int().min(1).max(1_000).default(1),
  /**
   * `min_then_fill`: machines run as soon as the minimum is granted, the rest follows. `all_or_nothing`: the minimum is the count.
   * `best_effort`: each machine runs as it is granted.
   */
  policy: z.enum(policies).default('min_then_fill'),
  /** How long what could not be granted is applied for again. Absent or 0: the first pass decides. */
  applyDurationMinutes: z.number().min(0).max(10_080).nullish(),
  /** The same as an absolute time, ISO 8601. */
  deadline: z.iso.datetime({ offset: true }).nullish(),
  /** Where the order's slots are told of. Absent: at the tenant's registered endpoint. */
  notifyUrl: z.string().min(1).max(2_000).nullish(),
  /** What those are signed with (Standard Webhooks, `whsec_…`). Kept sealed. */
  notifySignKey: z.string().min(1).max(300).nullish(),
});
export type ApplyRequest = z.infer<typeof applyRequest>;

export const batchView = z.object({
  id: z.string(),
  businessOrderNo: z.string(),
  packageId: z.string(),
  priceVersion: z.number(),
  policy: z.enum(policies),
  count: z.number(),
  minimum: z.number(),
  state: z.enum(batchStates),
  /** How the filling ended; stays when the batch has ended. */
  result: z.enum(['FULFILLED', 'PARTIAL', 'FAILED', 'CANCELLED']).nullable(),
  /** Slots that have a machine, or had it until they ended. */
  granted: z.number(),
  running: z.number(),
  slots: z.partialRecord(z.enum(slotStates), z.number()),
  deadline: z.string().nullable(),
  createdAt: z.string(),
  finishedAt: z.string().nullable(),
  endedAt: z.string().nullable(),
});
export type BatchView = z.infer<typeof batchView>;

export const slotView = z.object({
  applyId: z.string(),
  batchId: z.string(),
  state: z.enum(slotStates),
  machineId: z.string().nullable(),
  ip: z.string().nullable(),
  /** What the customer wants, and what the room last said. */
  desired: z.enum(['ON', 'OFF']).nullable(),
  power: z.enum(['ON', 'OFF']).nullable(),
  /** What an operator should look at. */
  flag: z.string().nullable(),
  changedAt: z.string(),
});
export type SlotView = z.infer<typeof slotView>;

export function time(ms: unknown): string | null {
  return ms === null || ms === undefined ? null : new Date(Number(ms)).toISOString();
}
