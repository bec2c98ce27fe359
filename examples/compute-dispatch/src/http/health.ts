import fastify from 'fastify';
import type { Dispatch } from '../dispatch.ts';

export interface HealthOptions {
  readonly host: string;
  readonly port: number;
  readonly dispatch: Dispatch;
  readonly metrics: () => Promise<string>;
}

/** Serves health and metrics of a process that has no API. Returns a function that closes the server. */
export async function serveHealth({ host, port, dispatch, metrics }: HealthOptions): Promise<() => Promise<void>> {
  const app = fastify({ forceCloseConnections: true });
  app.get('/healthz', async () => ({ status: 'ok' }));
  app.get('/readyz', async (_request, reply) => {
    await dispatch.knex.raw('SELECT 1');
    return reply.status(dispatch.ready ? 200 : 503).send({ status: dispatch.ready ? 'ready' : 'waiting for the broker' });
  });
  app.get('/metrics', async (_request, reply) => reply.type('text/plain; version=0.0.4').send(await metrics()));
  await app.listen({ host, port });
  return () => app.close();
}
