import { timingSafeEqual } from 'node:crypto';
import fastify, { type FastifyInstance, type FastifyReply } from 'fastify';
import { serializerCompiler, validatorCompiler, type ZodTypeProvider } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { grantsRequest, powerRequest, releasesRequest } from '../protocol.ts';
import { misbehaviour } from './misbehaviour.ts';
import type { Room } from './room.ts';

/** The HTTP API of a simulated room: that of a real room's controller, and `/v1/misbehaviour` and `/v1/truth` for the simulation. */
export async function createRoomServer(room: Room, token: string): Promise<FastifyInstance> {
  const app = fastify({ forceCloseConnections: true, bodyLimit: 4 * 2 ** 20 }).withTypeProvider<ZodTypeProvider>();
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  app.addHook('onRequest', async (request, reply) => {
    if (request.url === '/healthz') return;
    const [shown, right] = [Buffer.from(request.headers.authorization ?? ''), Buffer.from(`Bearer ${token}`)];
    if (shown.length !== right.length || !timingSafeEqual(shown, right))
      await reply.code(401).send({ detail: 'The bearer token is wrong or missing.' });
  });
  /** Answers after the work is done, or loses the answer. */
  const answer = async (reply: FastifyReply, body: unknown): Promise<FastifyReply> => {
    const { answerMs, lostAnswerPercent } = room.misbehaviour;
    room.flush();
    if (answerMs > 0) await new Promise((resolve) => setTimeout(resolve, answerMs));
    if (!room.chance(lostAnswerPercent)) return reply.send(body);
    reply.hijack();
    reply.raw.socket?.destroy();
    return reply;
  };
  app.post('/v1/grants', { schema: { body: grantsRequest } }, (request, reply) =>
    answer(reply, { results: room.grant(request.body.requests) }),
  );
  app.post('/v1/power', { schema: { body: powerRequest } }, (request, reply) =>
    answer(reply, { results: room.power(request.body.commands) }),
  );
  app.post('/v1/releases', { schema: { body: releasesRequest } }, (request, reply) =>
    answer(reply, { results: room.release(request.body.leases) }),
  );
  const page = z.object({ after: z.string().max(40).optional(), limit: z.coerce.number().int().min(1).max(5_000).default(1_000) });
  app.get('/v1/machines', { schema: { querystring: page } }, (request, reply) =>
    reply.send(room.list(request.query.after, request.query.limit)),
  );
  app.get('/v1/misbehaviour', (_request, reply) => reply.send(room.misbehaviour));
  app.put('/v1/misbehaviour', { schema: { body: misbehaviour.partial() } }, (request, reply) => {
    const named = Object.entries(request.body).filter(([, value]) => value !== undefined);
    room.misbehaviour = { ...room.misbehaviour, ...Object.fromEntries(named) };
    return reply.send(room.misbehaviour);
  });
  app.post(
    '/v1/machines/:id/cut',
    { schema: { params: z.object({ id: z.string() }), body: z.object({ tell: z.boolean().default(false) }) } },
    (request, reply) => reply.send({ cut: room.cut(request.params.id, request.body.tell) }),
  );
  app.get('/v1/truth', (_request, reply) => reply.send({ leases: room.truth() }));
  app.get('/healthz', (_request, reply) => reply.send({ status: 'ok' }));
  return app as unknown as FastifyInstance;
}
