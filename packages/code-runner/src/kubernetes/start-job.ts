import { HoldfastError } from '@holdfast/core';
import type { V1ConfigMap } from '@kubernetes/client-node';
import { ExecutorUnavailableError } from '../errors.ts';
import type { ExecutionSpec } from '../executor/executor.ts';
import { packFiles } from './archive.ts';
import { type CodeSource, type JobSettings, jobManifest } from './job-manifest.ts';
import { ApiRefusal, type KubernetesApi } from './kubernetes-api.ts';
import { labelsOf, objectName, refOf } from './labels.ts';

/** Creates the Job of an attempt, with its files, unless it exists. */
export async function startJob(
  api: KubernetesApi,
  spec: ExecutionSpec,
  settings: JobSettings & { readonly inlineBytes: number },
): Promise<void> {
  const archive = await packFiles(spec.files);
  const { source, dataUrls } = await sourcesOf(spec, archive, settings.inlineBytes);
  if (source.from === 'config-map') {
    const map: V1ConfigMap = {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: objectName(spec), namespace: api.namespace, labels: labelsOf(spec, settings.instance) },
      immutable: true,
      binaryData: { 'code.tar.gz': archive.toString('base64') },
    };
    // A ConfigMap that exists already has the same files: it belongs to the same attempt.
    await api.createConfigMap(map).catch((error) => {
      if (!(error instanceof ApiRefusal && error.status === 409)) throw refused(error, spec);
    });
  }
  const job = jobManifest(spec, source, dataUrls, settings);
  try {
    await api.createJob(job);
  } catch (error) {
    if (!(error instanceof ApiRefusal) || (error.status !== 409 && error.status !== 'unknown')) throw refused(error, spec);
    // The Job exists, or the reply was lost: read it instead of guessing.
    const existing = await api.job(objectName(spec)).catch((again) => {
      throw refused(again, spec);
    });
    if (!existing) throw refused(error, spec);
    if (refOf(existing)?.jobUid !== spec.jobUid)
      throw new ExecutorUnavailableError(
        `The Job ${objectName(spec)} of the namespace ${api.namespace} belongs to another service. Give each service its own instance (option instance) or namespace.`,
      );
  }
}

async function sourcesOf(
  spec: ExecutionSpec,
  archive: Buffer,
  inline: number,
): Promise<{ readonly source: CodeSource; readonly dataUrls: readonly string[] }> {
  const { url, keep } = spec;
  if ((archive.length > inline || spec.dataSets.length > 0) && !url)
    throw new ExecutorUnavailableError(
      `The task has ${archive.length} bytes of packed files and ${spec.dataSets.length} data sets. More than ${inline} bytes, or any data set, need a file store with addresses, such as s3Files.`,
    );
  const dataUrls = await Promise.all(spec.dataSets.map(({ object }) => url?.(object) ?? ''));
  if (archive.length <= inline) return { source: { from: 'config-map' }, dataUrls };
  const object = (await keep?.('code.tar.gz', archive)) ?? '';
  return { source: { from: 'url', url: (await url?.(object)) ?? '' }, dataUrls };
}

/** Turns a refused start into an error that is retryable or final. */
function refused(error: unknown, spec: ExecutionSpec): Error {
  if (!(error instanceof ApiRefusal)) return error as Error;
  const what = `The Job ${objectName(spec)} could not be created`;
  // A manifest that is not valid stays so: final.
  if (error.status === 422 || error.status === 400 || error.status === 413)
    return new ExecutorUnavailableError(`${what}: ${error.message}. Tell whoever operates this service.`, { cause: error });
  return new PendingError(`${what}: ${error.message}`, error);
}

/** The cluster has no room or does not answer at the moment. The start is retried; after `pending` the run fails with UNSCHEDULABLE. */
export class PendingError extends HoldfastError {
  constructor(message: string, cause: unknown) {
    super(message, { code: 'executor-pending', retryable: true, cause });
  }
}
