import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { packageView, priceView } from '../catalogue.ts';
import type { Dispatch } from '../dispatch.ts';
import { DispatchError, found, notFound } from '../errors.ts';
import { verdict } from '../invariants.ts';
import { scanView } from '../invoices.ts';
import { powerEvent } from '../power/event.ts';
import { strays } from '../power/power-events.ts';
import type { RoomControls } from '../room/room-controls.ts';
import { misbehaviour } from '../room/simulator/misbehaviour.ts';
import { tenantId, tenantView } from '../tenants/tenants.ts';
import { refusals } from './problem.ts';

const admin = { access: 'admin' } as const;

/** The routes for operators, and for the room. For tenants they do not exist. */
export function operatorRoutes(root: FastifyInstance, dispatch: Dispatch, room: RoomControls | undefined): void {
  const app = root.withTypeProvider<ZodTypeProvider>();
  const now = (): Promise<number> => dispatch.database.now();
  const byTenant = z.object({ id: tenantId });
  const tenantThere = async (tenant: string) => found(await dispatch.tenants.get(tenant), `tenant ${tenant}`);

  app.get(
    '/v1/tenants',
    {
      config: admin,
      schema: {
        summary: 'Tenants',
        tags: ['operators'],
        querystring: z.object({ after: tenantId.optional(), limit: z.coerce.number().int().min(1).max(1_000).default(100) }),
        response: { 200: z.object({ tenants: z.array(tenantView), next: z.string().nullable() }), ...refusals },
      },
    },
    async (request) => {
      const tenants = await dispatch.tenants.list(request.query.after, request.query.limit);
      return { tenants, next: tenants.length === request.query.limit ? (tenants.at(-1)?.id ?? null) : null };
    },
  );
  app.put(
    '/v1/tenants/:id',
    {
      config: admin,
      schema: {
        summary: 'Make a tenant, or change its quota',
        tags: ['operators'],
        params: byTenant,
        body: z.object({ maxSlots: z.number().int().min(0).max(10_000_000).optional() }),
        response: { 200: tenantView, ...refusals },
      },
    },
    async (request) => dispatch.tenants.put(request.params.id, request.body.maxSlots, await now()),
  );
  app.get(
    '/v1/tenants/:id/keys',
    {
      config: admin,
      schema: {
        summary: 'API keys of a tenant, without their secrets',
        tags: ['operators'],
        params: byTenant,
        response: {
          200: z.object({ keys: z.array(z.object({ id: z.string(), createdAt: z.string(), revokedAt: z.string().nullable() })) }),
          ...refusals,
        },
      },
    },
    async (request) => {
      await tenantThere(request.params.id);
      return { keys: await dispatch.keys.list(request.params.id) };
    },
  );
  app.post(
    '/v1/tenants/:id/keys',
    {
      config: admin,
      schema: {
        summary: 'Make an API key. It is shown in this answer only',
        tags: ['operators'],
        params: byTenant,
        response: { 201: z.object({ key: z.string() }), ...refusals },
      },
    },
    async (request, reply) => {
      await tenantThere(request.params.id);
      return reply.code(201).send({ key: await dispatch.keys.create(request.params.id, await now()) });
    },
  );
  app.delete(
    '/v1/tenants/:id/keys/:key',
    {
      config: admin,
      schema: {
        summary: 'Revoke an API key. It is refused within 10 s',
        tags: ['operators'],
        params: byTenant.extend({ key: z.string().regex(/^[A-Za-z0-9]{12}$/, 'must be the id of a key') }),
        response: { 204: z.null(), ...refusals },
      },
    },
    async (request, reply) => {
      if (!(await dispatch.keys.revoke(request.params.key, request.params.id, await now())))
        throw notFound(`valid key ${request.params.key} of this tenant`);
      return reply.code(204).send(null);
    },
  );
  app.post(
    '/v1/prices',
    {
      config: admin,
      schema: {
        summary: 'Set a price for orders from now on',
        tags: ['operators'],
        body: z.object({ packageId: z.string().min(1).max(40), centsPerHour: z.number().int().min(0).max(100_000_000) }),
        response: { 201: priceView, ...refusals },
      },
    },
    async (request, reply) =>
      reply.code(201).send(await dispatch.catalogue.setPrice(request.body.packageId, request.body.centsPerHour, await now())),
  );
  app.put(
    '/v1/packages/:id/parameters',
    {
      config: admin,
      schema: {
        summary: 'Set how machines of a package stream their screen, from the next lease on',
        tags: ['operators'],
        params: z.object({ id: z.string().regex(/^[a-z0-9-]{1,40}$/, 'must be the id of a package') }),
        body: z.object({
          parameters: z.record(
            z.string().regex(/^[A-Za-z][A-Za-z0-9]{0,59}$/, 'must be letters and digits'),
            z
              .string()
              .regex(/^[\x20-\x7e]{0,200}$/, 'must be printable ASCII')
              .nullable(),
          ),
        }),
        response: { 200: packageView, ...refusals },
      },
    },
    async (request) => dispatch.catalogue.setParameters(request.params.id, request.body.parameters),
  );
  app.get(
    '/v1/machines',
    {
      config: admin,
      schema: {
        summary: 'Machines of all rooms',
        tags: ['operators'],
        querystring: z.object({
          after: z
            .string()
            .regex(/^[\x21-\x7e]{1,40}$/, 'must be the id of a machine')
            .optional(),
          limit: z.coerce.number().int().min(1).max(1_000).default(100),
        }),
        response: {
          200: z.object({
            machines: z.array(
              z.object({ id: z.string(), room: z.string(), ip: z.string(), packageId: z.string(), state: z.string(), epoch: z.number() }),
            ),
            next: z.string().nullable(),
          }),
          ...refusals,
        },
      },
    },
    async (request) => {
      const machines = await dispatch.reader.machinesAfter(request.query.after, request.query.limit);
      return { machines, next: machines.length === request.query.limit ? (machines.at(-1)?.id ?? null) : null };
    },
  );
  app.get(
    '/v1/invariants',
    {
      config: admin,
      schema: {
        summary: 'The invariants, and whether they hold',
        tags: ['operators'],
        response: { 200: z.object({ invariants: z.array(verdict) }), ...refusals },
      },
    },
    async () => ({ invariants: await dispatch.invariants.check({ truth: await room?.truth().catch(() => undefined) }) }),
  );
  app.post(
    '/v1/reconcile',
    {
      config: admin,
      schema: {
        summary: "Compare the room's list with ours, now",
        tags: ['operators'],
        response: { 200: z.record(z.string(), z.number()), ...refusals },
      },
    },
    async () => {
      try {
        return { ...(await dispatch.reconcile()) };
      } catch (error) {
        throw new DispatchError('room-unavailable', (error as Error).message);
      }
    },
  );
  app.get(
    '/v1/parked-events',
    {
      config: admin,
      schema: {
        summary: 'Power events without effect: unreadable ones, and those of unknown leases',
        tags: ['operators'],
        response: {
          200: strays,
          ...refusals,
        },
      },
    },
    async () => dispatch.powerEvents.strays(),
  );
  app.get(
    '/v1/misbehaviour',
    {
      config: admin,
      schema: { summary: 'How the simulated room misbehaves', tags: ['operators'], response: { 200: misbehaviour, ...refusals } },
    },
    async () => simulated(room).get(),
  );
  app.put(
    '/v1/misbehaviour',
    {
      config: admin,
      schema: {
        summary: 'Change how the simulated room misbehaves',
        tags: ['operators'],
        body: misbehaviour.partial(),
        response: { 200: misbehaviour, ...refusals },
      },
    },
    async (request) => simulated(room).set(request.body as Partial<z.infer<typeof misbehaviour>>),
  );
  app.post(
    '/v1/invoice-scan',
    {
      config: admin,
      schema: {
        summary: 'Look for invoices that were not sent, now',
        tags: ['operators'],
        body: z.object({ databases: z.string().max(100).default('1,2') }),
        response: { 202: z.object({ databases: z.string() }), ...refusals },
      },
    },
    async (request, reply) => {
      await dispatch.invoices.beginScan(request.body.databases);
      return reply.code(202).send({ databases: request.body.databases });
    },
  );
  app.get(
    '/v1/invoice-scan',
    {
      config: admin,
      schema: {
        summary: 'The progress of the last scan for unsent invoices',
        tags: ['operators'],
        response: { 200: scanView, ...refusals },
      },
    },
    async () => dispatch.invoices.progress(),
  );
  app.post(
    '/v1/room/events',
    {
      config: { access: 'room' },
      schema: {
        summary: 'Power events of a room that has no broker',
        tags: ['room'],
        body: z.object({ events: z.array(powerEvent).min(1).max(500) }),
        response: { 202: z.object({ taken: z.number() }), ...refusals },
      },
    },
    async (request, reply) => {
      await dispatch.powerEvents.publish(request.body.events);
      return reply.code(202).send({ taken: request.body.events.length });
    },
  );
}

function simulated(room: RoomControls | undefined): RoomControls {
  if (!room) throw notFound('simulated room: a real one misbehaves as it likes');
  return room;
}
