import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { DispatchError, notFound } from '../errors.ts';
import type { ApiKeys } from '../tenants/api-keys.ts';
import { type Tenants, tenantId } from '../tenants/tenants.ts';
import { RequestError } from './problem.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** The owner of the API key: a tenant, or the operators (`admin`), who name the tenant that they act for. */
    who: { readonly admin: boolean; readonly tenant: string | undefined } | undefined;
  }
  interface FastifyContextConfig {
    /** The callers of the route. Default: a tenant, or an operator for one. */
    readonly access?: 'tenant' | 'admin' | 'room' | 'public';
  }
}

const cookie = 'dispatch_session';

/** The tenant that a request is for. @throws RequestError */
export function tenantOf(request: FastifyRequest): string {
  const tenant = request.who?.tenant;
  if (tenant === undefined)
    throw new RequestError('tenant-missing', "The operators' key acts for a tenant; name it in the header x-tenant.");
  return tenant;
}

/**
 * Authenticates by API keys, as `Authorization: Bearer hf_…`. The page sends its key once and gets it back as a cookie that scripts cannot
 * read and other sites cannot send; besides, a request by cookie that changes something must come from the page's own origin.
 */
export function authenticate(
  app: FastifyInstance,
  { keys, tenants, roomToken }: { readonly keys: ApiKeys; readonly tenants: Tenants; readonly roomToken: string },
): void {
  app.decorateRequest('who', undefined);
  app.addHook('onRequest', async (request) => {
    const access = request.routeOptions.config.access ?? (request.routeOptions.url?.startsWith('/v1/') ? 'tenant' : 'public');
    if (access === 'public') return;
    const shown = shownKey(request);
    if (access === 'room') {
      if (!shown || !same(shown.key, roomToken)) throw unauthorized();
      return;
    }
    const caller = shown && (await keys.caller(shown.key));
    if (!caller) throw unauthorized();
    if (shown.session && !['GET', 'HEAD'].includes(request.method) && !fromOwnOrigin(request))
      throw new RequestError('foreign-origin', 'A session is for the page of this service alone; use an API key elsewhere.');
    if (access === 'admin' && caller.tenant !== null)
      throw new DispatchError('not-found', `There is nothing at ${request.method} ${request.url.split('?')[0]}.`);
    request.who = { admin: caller.tenant === null, tenant: caller.tenant ?? (await actingFor(request, shown.session, tenants)) };
  });
  app.post(
    '/v1/session',
    { schema: { hide: true, body: z.object({ key: z.string().max(100), tenant: tenantId.optional() }) }, config: { access: 'public' } },
    async (request, reply) => {
      const { key, tenant } = request.body as { key: string; tenant?: string };
      const caller = await keys.caller(key);
      if (!caller) throw unauthorized();
      const own = caller.tenant ?? tenant;
      if (caller.tenant === null && own !== undefined && !(await tenants.get(own))) throw notFound(`tenant ${own}`);
      const secure = request.protocol === 'https' ? '; Secure' : '';
      const value = `${key}.${own ?? ''}`;
      return setCookie(reply, `${cookie}=${value}; Path=/; HttpOnly; SameSite=Strict; Max-Age=86400${secure}`).send({
        admin: caller.tenant === null,
        tenant: own ?? null,
      });
    },
  );
  app.delete('/v1/session', { schema: { hide: true }, config: { access: 'public' } }, async (_request, reply) =>
    setCookie(reply, `${cookie}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0`).code(204).send(),
  );
}

function setCookie(reply: FastifyReply, value: string): FastifyReply {
  return reply.header('set-cookie', value);
}

async function actingFor(request: FastifyRequest, session: string | undefined, tenants: Tenants): Promise<string | undefined> {
  const named = request.headers['x-tenant'] ?? (session || undefined);
  if (named === undefined) return undefined;
  if (typeof named !== 'string' || !tenantId.safeParse(named).success || !(await tenants.get(named)))
    throw new DispatchError('not-found', 'There is no such tenant.');
  return named;
}

/** The key of a request and, if it came as a cookie, the session's tenant. */
function shownKey(request: FastifyRequest): { readonly key: string; readonly session?: string } | undefined {
  const [, bearer] = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? '') ?? [];
  if (bearer) return { key: bearer };
  const value = (request.headers.cookie ?? '').split(/; */).find((part) => part.startsWith(`${cookie}=`));
  const [key = '', tenant = ''] = (value ?? '').slice(cookie.length + 1).split('.');
  return key === '' ? undefined : { key, session: tenant };
}

function fromOwnOrigin(request: FastifyRequest): boolean {
  const { origin } = request.headers;
  return origin !== undefined && URL.parse(origin)?.host === request.headers.host;
}

function unauthorized(): RequestError {
  return new RequestError(
    'unauthorized',
    'Show an API key, as in Authorization: Bearer hf_…; `npm start` prints those of the demonstration.',
  );
}

function same(a: string, b: string): boolean {
  const hash = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(hash(a), hash(b));
}
