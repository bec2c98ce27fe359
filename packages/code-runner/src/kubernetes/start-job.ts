import { HoldfastError } from '@holdfast/core';
import type { V1ConfigMap } from '@kubernetes/client-node';
import { ExecutorUnavailableError } from '../errors.ts';
import type { ExecutionSpec } from '../executor/executor.ts';
import { packFiles } from './archive.ts';
import { type CodeSource, type JobSettings, jobManifest } from './job-manifest.ts';
import { ApiRefusal, type KubernetesApi } from './kubernetes-api.ts';
import { labelsOf, objectName, refOf } from './labels.ts';

/** Creates the Job of an attempt, with its files, unless it is there. */
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
    // The same attempt has the same files: one that is there already is as good.
    await api.createConfigMap(map).catch((error) => {
      if (!(error instanceof ApiRefusal && error.status === 409)) throw refused(error, spec);
    });
  }
  const job = jobManifest(spec, source, dataUrls, settings);
  try {
    await api.createJob(job);
  } catch (error) {
    if (!(error instanceof ApiRefusal) || (error.status !== 409 && error.status !== 'unknown')) throw refused(error, spec);
    // There is one of this name, or nobody knows: it is looked up, never assumed.
    const there = await api.job(objectName(spec)).catch((again) => {
      throw refused(again, spec);
    });
    if (!there) throw refused(error, spec);
    if (refOf(there)?.jobUid !== spec.jobUid)
      throw new ExecutorUnavailableError(
        `The Job ${objectName(spec)} of the namespace ${api.namespace} is another's. Give each service an instance of its own (instance), or a namespace.`,
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
      `The task's files have ${archive.length} bytes packed; more than ${inline}, and data sets, need a file store that hands out addresses, such as s3Files.`,
    );
  const dataUrls = await Promise.all(spec.dataSets.map(({ object }) => url?.(object) ?? ''));
  if (archive.length <= inline) return { source: { from: 'config-map' }, dataUrls };
  const object = (await keep?.('code.tar.gz', archive)) ?? '';
  return { source: { from: 'url', url: (await url?.(object)) ?? '' }, dataUrls };
}

/** What a start that was refused means: to be tried again, or never. */
function refused(error: unknown, spec: ExecutionSpec): Error {
  if (!(error instanceof ApiRefusal)) return error as Error;
  const what = `The Job ${objectName(spec)} could not be created`;
  // A manifest that is not valid will not become so.
  if (error.status === 422 || error.status === 400 || error.status === 413)
    return new ExecutorUnavailableError(`${what}: ${error.message}. Tell whoever operates this service.`, { cause: error });
  return new PendingError(`${what}: ${error.message}`, error);
}

/** There is no room or no answer at the moment. The run waits, and fails as UNSCHEDULABLE in the end. */
export class PendingError extends HoldfastError {
  constructor(message: string, cause: unknown) {
    super(message, { code: 'executor-pending', retryable: true, cause });
  }
}
