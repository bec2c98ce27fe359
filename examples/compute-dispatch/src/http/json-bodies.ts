import type { IncomingMessage } from 'node:http';
import { readBody } from '@holdfast/http';
import type { FastifyInstance, FastifyRequest } from 'fastify';

/** The largest body of a request with JSON: 256 KiB. */
export const maxBodyBytes = 262_144;

/** Accepts JSON bodies of at most {@link maxBodyBytes}, and no other bodies. */
export function jsonBodies(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', async (request: FastifyRequest, payload: IncomingMessage) => {
    const text = (await readBody(payload, maxBodyBytes)).toString('utf8');
    return new Promise((resolve, reject) => parse(request, text, (error, body) => (error ? reject(error) : resolve(body))));
  });
}
