import type { FastifyInstance } from 'fastify';
import type { ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { applyRequest, batchView, id, slotView } from '../batches/views.ts';
import { callbackEndpoint, callbackView } from '../callbacks.ts';
import { packageView, priceView } from '../catalogue.ts';
import type { Dispatch } from '../dispatch.ts';
import { found } from '../errors.ts';
import { feedEvent } from '../feed.ts';
import { invoiceView } from '../invoices.ts';
import { tenantView } from '../tenants/tenants.ts';
import { timelineEntry } from '../timeline.ts';
import { tenantOf } from './auth.ts';
import { refusals } from './problem.ts';

const byId = z.object({ id });
const limit = (most: number, usual: number) => z.coerce.number().int().min(1).max(most).default(usual);

/** The routes for customers. Objects of another tenant are answered with 404. */
export function customerRoutes(root: FastifyInstance, dispatch: Dispatch): void {
  const app = root.withTypeProvider<ZodTypeProvider>();
  const { reader, steer, callbacks } = dispatch;
  const batchOf = async (tenant: string, batchId: string): Promise<Record<string, unknown>> =>
    found(await reader.row(tenant, batchId), `batch ${batchId}`);
  const slotOf = async (tenant: string, applyId: string): Promise<z.infer<typeof slotView>> =>
    found(await reader.slot(tenant, applyId), `slot ${applyId}`);

  app.post(
    '/v1/batches',
    { schema: { summary: 'Apply for a batch', tags: ['batches'], body: applyRequest, response: { 202: batchView, ...refusals } } },
    async (request, reply) => {
      const { batch } = await dispatch.apply(tenantOf(request), request.body);
      return reply.code(202).header('location', `/v1/batches/${batch.id}`).send(batch);
    },
  );
  app.get(
    '/v1/batches',
    {
      schema: {
        summary: 'Batches, newest first',
        tags: ['batches'],
        querystring: z.object({ limit: limit(100, 20), before: id.optional() }),
        response: { 200: z.object({ batches: z.array(batchView), next: z.string().nullable() }), ...refusals },
      },
    },
    async (request) => {
      const batches = await reader.batches(tenantOf(request), request.query.limit, request.query.before);
      return { batches, next: batches.length === request.query.limit ? (batches.at(-1)?.id ?? null) : null };
    },
  );
  app.get(
    '/v1/batches/:id',
    { schema: { summary: 'One batch', tags: ['batches'], params: byId, response: { 200: batchView, ...refusals } } },
    async (request) => found(await reader.batch(tenantOf(request), request.params.id), `batch ${request.params.id}`),
  );
  app.get(
    '/v1/batches/:id/slots',
    {
      schema: {
        summary: 'The slots of a batch',
        tags: ['batches'],
        params: byId,
        querystring: z.object({ limit: limit(1_000, 200), after: id.optional() }),
        response: { 200: z.object({ slots: z.array(slotView), next: z.string().nullable() }), ...refusals },
      },
    },
    async (request) => {
      await batchOf(tenantOf(request), request.params.id);
      const slots = await reader.slots(request.params.id, request.query.limit, request.query.after);
      return { slots, next: slots.length === request.query.limit ? (slots.at(-1)?.applyId ?? null) : null };
    },
  );
  app.get(
    '/v1/batches/:id/timeline',
    {
      schema: {
        summary: 'The history of a batch, from all parts of the service',
        tags: ['batches'],
        params: byId,
        response: { 200: z.object({ timeline: z.array(timelineEntry) }), ...refusals },
      },
    },
    async (request) => ({ timeline: await dispatch.timeline.of(await batchOf(tenantOf(request), request.params.id)) }),
  );
  app.post(
    '/v1/batches/:id/cancel',
    {
      schema: {
        summary: 'End the filling of a batch, and give back its machines',
        tags: ['batches'],
        params: byId,
        response: { 202: batchView, ...refusals },
      },
    },
    async (request, reply) => {
      const tenant = tenantOf(request);
      found((await steer.cancel(tenant, request.params.id)) || undefined, `batch ${request.params.id}`);
      return reply.code(202).send(found(await reader.batch(tenant, request.params.id), `batch ${request.params.id}`));
    },
  );
  app.post(
    '/v1/batches/:id/release',
    {
      schema: {
        summary: 'Give back all machines of a batch that was filled',
        tags: ['batches'],
        params: byId,
        response: { 202: batchView, ...refusals },
      },
    },
    async (request, reply) => {
      const tenant = tenantOf(request);
      found((await steer.release(tenant, request.params.id)) || undefined, `batch ${request.params.id}`);
      return reply.code(202).send(found(await reader.batch(tenant, request.params.id), `batch ${request.params.id}`));
    },
  );

  app.get(
    '/v1/slots/:id',
    { schema: { summary: 'One slot', tags: ['slots'], params: byId, response: { 200: slotView, ...refusals } } },
    async (request) => slotOf(tenantOf(request), request.params.id),
  );
  app.get(
    '/v1/slots/:id/timeline',
    {
      schema: {
        summary: 'The history of a slot: order, tasks, messages, the room, its bill, its callbacks',
        tags: ['slots'],
        params: byId,
        response: { 200: z.object({ timeline: z.array(timelineEntry) }), ...refusals },
      },
    },
    async (request) => {
      const tenant = tenantOf(request);
      const slot = await slotOf(tenant, request.params.id);
      return { timeline: await dispatch.timeline.of(await batchOf(tenant, slot.batchId), slot.applyId) };
    },
  );
  app.post(
    '/v1/slots/:id/power',
    {
      schema: {
        summary: "Switch a slot's machine. A machine that is switched off ends its slot",
        tags: ['slots'],
        params: byId,
        body: z.object({ desired: z.enum(['ON', 'OFF']) }),
        response: { 202: slotView, ...refusals },
      },
    },
    async (request, reply) => {
      const tenant = tenantOf(request);
      const slot = await slotOf(tenant, request.params.id);
      await steer.power(tenant, slot.batchId, slot.applyId, request.body.desired);
      return reply.code(202).send(await slotOf(tenant, slot.applyId));
    },
  );
  app.post(
    '/v1/slots/:id/release',
    { schema: { summary: "Give back a slot's machine", tags: ['slots'], params: byId, response: { 202: slotView, ...refusals } } },
    async (request, reply) => {
      const tenant = tenantOf(request);
      const slot = await slotOf(tenant, request.params.id);
      await steer.release(tenant, slot.batchId, slot.applyId);
      return reply.code(202).send(await slotOf(tenant, slot.applyId));
    },
  );
  app.get(
    '/v1/slots/:id/callbacks',
    {
      schema: {
        summary: 'The callbacks about a slot, with every attempt',
        tags: ['callbacks'],
        params: byId,
        response: { 200: z.object({ callbacks: z.array(callbackView) }), ...refusals },
      },
    },
    async (request) => {
      const tenant = tenantOf(request);
      await slotOf(tenant, request.params.id);
      return { callbacks: await callbacks.of(tenant, request.params.id) };
    },
  );
  app.get(
    '/v1/callbacks',
    {
      schema: {
        summary: 'Callbacks in one state, the oldest first, with every attempt',
        tags: ['callbacks'],
        querystring: z.object({ state: callbackView.shape.state.default('PENDING'), limit: limit(100, 50) }),
        response: { 200: z.object({ callbacks: z.array(callbackView.extend({ applyId: z.string() })) }), ...refusals },
      },
    },
    async (request) => ({ callbacks: await callbacks.inState(tenantOf(request), request.query.state, request.query.limit) }),
  );
  app.get(
    '/v1/slots/:id/invoices',
    {
      schema: {
        summary: 'The invoices of a slot so far',
        tags: ['billing'],
        params: byId,
        response: { 200: z.object({ invoices: z.array(invoiceView) }), ...refusals },
      },
    },
    async (request) => {
      await slotOf(tenantOf(request), request.params.id);
      return { invoices: await dispatch.invoices.of(request.params.id) };
    },
  );
  app.post(
    '/v1/callbacks/:id/resend',
    {
      schema: {
        summary: 'Send a callback once more, now',
        tags: ['callbacks'],
        params: byId,
        response: { 202: z.object({ id: z.string() }), ...refusals },
      },
    },
    async (request, reply) => {
      found((await callbacks.resend(tenantOf(request), request.params.id)) || undefined, `callback ${request.params.id}`);
      return reply.code(202).send({ id: request.params.id });
    },
  );
  app.put(
    '/v1/callback-endpoint',
    {
      schema: {
        summary: 'Register the address for callbacks, which are signed by Standard Webhooks with the key in the response',
        tags: ['callbacks'],
        body: z.object({ url: z.string().min(1).max(2_000) }),
        response: { 200: callbackEndpoint, ...refusals },
      },
    },
    async (request) => callbacks.register(tenantOf(request), request.body.url),
  );
  app.get(
    '/v1/callback-endpoint',
    { schema: { summary: 'The address for callbacks', tags: ['callbacks'], response: { 200: callbackEndpoint, ...refusals } } },
    async (request) => found(await callbacks.endpoint(tenantOf(request)), 'callback endpoint of this tenant'),
  );
  app.get(
    '/v1/events',
    {
      schema: {
        summary: 'All events that callbacks report, in order, for receivers that missed some',
        tags: ['callbacks'],
        querystring: z.object({ after: id.default('0'), limit: limit(1_000, 100) }),
        response: { 200: z.object({ events: z.array(feedEvent), next: z.string() }), ...refusals },
      },
    },
    async (request) => {
      const events = await dispatch.feed.read(tenantOf(request), request.query.after, request.query.limit);
      return { events, next: events.at(-1)?.seq ?? request.query.after };
    },
  );
  app.get(
    '/v1/usage',
    {
      schema: {
        summary: 'The usage of a tenant, by package and price',
        tags: ['billing'],
        querystring: z.object({ from: z.iso.datetime({ offset: true }).optional(), to: z.iso.datetime({ offset: true }).optional() }),
        response: {
          200: z.object({
            usage: z.array(
              z.object({ packageId: z.string(), priceVersion: z.number(), lines: z.number(), ms: z.number(), amountCents: z.number() }),
            ),
          }),
          ...refusals,
        },
      },
    },
    async (request) => ({ usage: await reader.usage(tenantOf(request), request.query.from, request.query.to) }),
  );
  app.get(
    '/v1/packages',
    {
      schema: {
        summary: 'The packages that can be ordered, and their prices',
        tags: ['catalogue'],
        response: { 200: z.object({ packages: z.array(packageView) }), ...refusals },
      },
    },
    async () => ({ packages: [...(await dispatch.catalogue.packages()).values()] }),
  );
  app.get(
    '/v1/prices',
    {
      schema: {
        summary: 'Every price, past ones too',
        tags: ['catalogue'],
        response: { 200: z.object({ prices: z.array(priceView) }), ...refusals },
      },
    },
    async () => ({ prices: await dispatch.catalogue.prices() }),
  );
  app.get(
    '/v1/rooms',
    {
      schema: {
        summary: 'Rooms, and how many machines of each package are free',
        tags: ['catalogue'],
        response: {
          200: z.object({
            rooms: z.array(
              z.object({
                id: z.string(),
                network: z.string(),
                machines: z.array(z.object({ packageId: z.string(), state: z.string(), count: z.number() })),
              }),
            ),
          }),
          ...refusals,
        },
      },
    },
    async () => ({ rooms: await reader.rooms() }),
  );
  app.get(
    '/v1/tenant',
    { schema: { summary: 'The quota, and how much of it is used', tags: ['catalogue'], response: { 200: tenantView, ...refusals } } },
    async (request) => found(await dispatch.tenants.get(tenantOf(request)), 'tenant'),
  );
}
