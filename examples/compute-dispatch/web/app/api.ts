export interface Answer<Body> {
  readonly ok: boolean;
  readonly body: Body | undefined;
  /** Description of the fault, as a sentence. */
  readonly problem: string;
}

/** Asks the service. What it refuses, and what it did not answer, come back as a sentence. */
export async function ask<Body>(method: string, path: string, body?: unknown): Promise<Answer<Body>> {
  try {
    const response = await fetch(path, {
      method,
      ...(body === undefined ? {} : { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }),
    });
    const text = await response.text();
    const json = text === '' ? undefined : JSON.parse(text);
    if (response.ok) return { ok: true, body: json as Body, problem: '' };
    return {
      ok: false,
      body: undefined,
      problem: json?.detail ? `${json.title}: ${json.detail}` : `The service answered ${response.status}.`,
    };
  } catch {
    return { ok: false, body: undefined, problem: 'The service did not answer. Send the same again: it is done once.' };
  }
}
