import { z } from 'zod';

/** The messages over HTTP between service and room: bodies of `POST /v1/grants`, `/v1/power`, `/v1/releases`, `GET /v1/machines`. */
const lease = z.object({ token: z.string().min(1).max(40), machineId: z.string().min(1).max(40), epoch: z.number().int().min(0) });
const powerState = z.object({ state: z.enum(['ON', 'OFF']), sinceMs: z.number(), sequence: z.number() });

export const grantsRequest = z.object({
  requests: z.array(lease.extend({ ip: z.string(), network: z.string(), parameters: z.record(z.string(), z.string()) })).max(1_000),
});
export const grantsAnswer = z.object({
  results: z.array(
    z.discriminatedUnion('outcome', [
      z.object({ outcome: z.literal('granted'), grantedAtMs: z.number() }),
      z.object({ outcome: z.literal('refused'), reason: z.enum(['down', 'busy', 'stale']) }),
    ]),
  ),
});
export const powerRequest = z.object({ commands: z.array(lease.extend({ to: z.enum(['ON', 'OFF']) })).max(1_000) });
export const powerAnswer = z.object({ results: z.array(z.object({ outcome: z.enum(['accepted', 'stale']) })) });
export const releasesRequest = z.object({ leases: z.array(lease).max(1_000) });
export const releasesAnswer = z.object({
  results: z.array(z.object({ outcome: z.literal('released'), releasedAtMs: z.number(), power: powerState.nullable() })),
});
export const machinesAnswer = z.object({
  atMs: z.number(),
  machines: z.array(
    z.object({
      machineId: z.string().min(1).max(40),
      roomId: z.string().min(1).max(40),
      ip: z.string().max(45),
      packageId: z.string().max(40),
      inService: z.boolean(),
      lease: lease.extend({ power: powerState.nullable() }).nullable(),
    }),
  ),
  next: z.string().nullable(),
});
