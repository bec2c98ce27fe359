import { z } from 'zod';
import { batchStates, slotStates } from '../topics.ts';

export const policies = ['min_then_fill', 'all_or_nothing', 'best_effort'] as const;

/** An id: a 64-bit number, as text. */
export const id = z
  .string()
  .regex(/^\d{1,19}$/, 'must be an id of digits')
  .refine((text) => text.length < 19 || text <= '9223372036854775807', 'must be an id of 63 bits');
/** Text without NUL, and without anything that a database would refuse or fold. */
const plainText = (max: number) =>
  z
    .string()
    .min(1)
    .max(max)
    // Not \p{Cc}: the document has this pattern, and most tools can't read classes of Unicode properties.
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is refused
    .regex(/^[^\x00-\x1f\x7f-\x9f]+$/, 'must not hold control characters')
    .refine((text) => text.isWellFormed(), 'must not hold lone surrogates')
    .refine((text) => text === text.trim(), 'must not begin or end with a blank');

export const applyRequest = z.object({
  /** The name of the order: the same request again returns the same batch. */
  businessOrderNo: plainText(100),
  packageId: plainText(40),
  count: z.number().int().min(1).max(1_000),
  /** The number of machines below which nothing is switched on. */
  minimum: z.number().int().min(1).max(1_000).default(1),
  /**
   * `min_then_fill`: machines run as soon as the minimum is granted, the rest follows. `all_or_nothing`: the minimum is the count.
   * `best_effort`: each machine runs as it is granted.
   */
  policy: z.enum(policies).default('min_then_fill'),
  /** How long machines that could not be granted are applied for again. Absent or 0: the first pass decides. */
  applyDurationMinutes: z.number().min(0).max(10_080).nullish(),
  /** The same as an absolute time, ISO 8601. */
  deadline: z.iso.datetime({ offset: true }).nullish(),
  notifyUrl: z
    .string()
    .min(1)
    .max(2_000)
    .nullish()
    .describe(
      'The address for callbacks about the slots of the order. Required, with notifySignKey, unless the tenant has registered one by PUT /v1/callback-endpoint; without it callbacks go there.',
    ),
  notifySignKey: z
    .string()
    .min(1)
    .max(300)
    .nullish()
    .describe(
      'The key that signs the callbacks to notifyUrl, by Standard Webhooks: whsec_ and 24 to 64 bytes in base64. Required with notifyUrl. It is stored encrypted, and never answered.',
    ),
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
  /** The result of the filling; it stays when the batch has ended. */
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
  /** The power state that the customer wants, and the one that the room last reported. */
  desired: z.enum(['ON', 'OFF']).nullable(),
  power: z.enum(['ON', 'OFF']).nullable(),
  /** A reason for an operator to look at the slot. */
  flag: z.string().nullable(),
  changedAt: z.string(),
});
export type SlotView = z.infer<typeof slotView>;

export function time(ms: unknown): string | null {
  return ms === null || ms === undefined ? null : new Date(Number(ms)).toISOString();
}
