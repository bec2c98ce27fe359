const base = 'v1/algorithm';

export const url = (path) => `${base}${path}`;

/** Asks, and throws what is wrong as its sentence. */
export async function ask(method, path, body, headers = {}) {
  const raw = typeof body === 'string' || body instanceof Blob;
  let response;
  try {
    response = await fetch(url(path), {
      method,
      headers: { ...(body === undefined || raw ? {} : { 'content-type': 'application/json' }), ...headers },
      ...(body === undefined ? {} : { body: raw ? body : JSON.stringify(body) }),
    });
  } catch {
    throw new Error('The service did not answer. Try again.');
  }
  const type = response.headers.get('content-type') ?? '';
  const result = type.includes('json') ? await response.json() : response.status === 204 ? undefined : await response.text();
  if (response.ok) return { result, etag: response.headers.get('etag') };
  throw Object.assign(new Error(result?.detail ?? `The service answered ${response.status}.`), {
    code: result?.code,
    runId: result?.runId,
  });
}

export const get = async (path) => (await ask('GET', path)).result;
