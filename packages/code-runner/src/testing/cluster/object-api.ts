import type { Kubelet } from './kubelet.ts';
import type { ApiObject, ObjectStore } from './object-store.ts';

export const kinds: Readonly<Record<string, { readonly kind: string; readonly apiVersion: string }>> = {
  jobs: { kind: 'Job', apiVersion: 'batch/v1' },
  pods: { kind: 'Pod', apiVersion: 'v1' },
  configmaps: { kind: 'ConfigMap', apiVersion: 'v1' },
};

interface Cluster {
  readonly namespace: string;
  readonly store: ObjectStore;
  readonly kubelet: Kubelet;
  readonly quota: number;
}

interface ObjectRequest {
  readonly method: string;
  readonly plural: string;
  readonly name: string | undefined;
  readonly url: URL;
  readonly body: string;
}

/** Handles a request for objects, and returns status and body of the answer. */
export async function answer(
  { namespace, store, kubelet, quota }: Cluster,
  { method, plural, name, url, body }: ObjectRequest,
): Promise<[number, unknown]> {
  const type = kinds[plural] as { kind: string; apiVersion: string };
  const notFound: [number, unknown] = [404, { reason: 'NotFound', message: `${plural} "${name}" not found` }];
  if (method === 'GET' && name === undefined) {
    const version = url.searchParams.get('resourceVersion');
    if (version !== null && version !== '0' && store.since(plural, Number(version)) === undefined)
      return [410, { reason: 'Expired', message: 'too old resource version' }];
    const items = store.all(plural).filter((object) => matches(object, url));
    return [200, { kind: `${type.kind}List`, apiVersion: type.apiVersion, metadata: { resourceVersion: String(store.version) }, items }];
  }
  const known = name === undefined ? undefined : store.get(plural, name);
  if (method === 'GET') return known ? [200, known] : notFound;
  if (method === 'POST') {
    const object = JSON.parse(body) as ApiObject;
    if (store.get(plural, object.metadata.name))
      return [409, { reason: 'AlreadyExists', message: `${plural} "${object.metadata.name}" already exists` }];
    if (plural === 'jobs' && store.all('jobs').length >= quota)
      return [403, { reason: 'Forbidden', message: `jobs.batch "${object.metadata.name}" is forbidden: exceeded quota: runs` }];
    const made = store.create(plural, namespace, object);
    if (plural === 'jobs') kubelet.jobCreated(made);
    return [201, made];
  }
  if (!known) return notFound;
  if (method === 'PATCH') {
    const patched = store.update(plural, known.metadata.name, (object) => merge(object, JSON.parse(body) as Record<string, unknown>));
    if (plural === 'pods') kubelet.deadlineSet(known.metadata.name);
    return [200, patched];
  }
  if (method === 'DELETE') {
    const inBody = body === '' ? undefined : (JSON.parse(body) as { propagationPolicy?: string }).propagationPolicy;
    // The default for Jobs: without a policy, their pods stay.
    const policy = url.searchParams.get('propagationPolicy') ?? inBody ?? 'Orphan';
    store.remove(plural, known.metadata.name);
    if (plural === 'pods') await kubelet.remove(known.metadata.name);
    if (plural === 'jobs' && policy !== 'Orphan')
      for (const pod of store.all('pods'))
        if (pod.metadata.ownerReferences?.some(({ uid }) => uid === known.metadata.uid)) await kubelet.remove(pod.metadata.name);
    return [200, { kind: 'Status', apiVersion: 'v1', status: 'Success' }];
  }
  return [405, { reason: 'MethodNotAllowed', message: method }];
}

export function matches(object: ApiObject, url: URL): boolean {
  const wanted = url.searchParams.get('labelSelector');
  if (!wanted) return true;
  return wanted.split(',').every((one) => {
    const [name = '', value] = one.split('=');
    return object.metadata.labels?.[name] === value;
  });
}

/** RFC 7386. */
function merge(target: Record<string, unknown>, patch: Record<string, unknown>): void {
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete target[name];
    else if (typeof value === 'object' && !Array.isArray(value)) {
      if (typeof target[name] !== 'object' || target[name] === null) target[name] = {};
      merge(target[name] as Record<string, unknown>, value as Record<string, unknown>);
    } else target[name] = value;
  }
}
