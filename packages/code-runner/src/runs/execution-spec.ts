import { InvalidArgumentError } from '@holdfast/core';
import type { ExecutionSpec } from '../executor/executor.ts';
import { commandOf, type Language } from '../languages/language.ts';
import type { Blobs } from '../store/blobs.ts';
import { checkFrozen } from '../tasks/data-sets.ts';
import { thaw } from './manifest.ts';
import type { RunRow } from './run.ts';

/** Path below `/code` of the file that a program reads as its standard input. */
const stdinFile = '.holdfast-stdin';

/** Builds the spec that an executor starts for a run: its frozen files, its command and its limits. */
export async function executionSpec(run: RunRow, languages: ReadonlyMap<string, Language>, blobs: Blobs): Promise<ExecutionSpec> {
  const language = languages.get(run.language ?? '');
  if (!language || run.limits === null || run.manifestHash === null)
    throw new InvalidArgumentError(
      `The run ${run.id} has the language ${run.language}, which this service does not know. Add it to languages.`,
    );
  const manifest = await thaw(blobs, run.manifestHash);
  const { store } = blobs;
  const { stdin, env } = manifest.input ?? {};
  const files = manifest.files.map(({ path, size, blob }) => ({ path, size, open: () => blobs.content(blob, size) }));
  const given = stdin === undefined ? undefined : Buffer.from(stdin);
  for (const { object } of manifest.dataSets) checkFrozen(object);
  return {
    runId: run.id,
    attempt: run.attempt,
    jobUid: run.jobUid,
    taskId: run.taskId,
    actor: run.actor,
    language,
    command: commandOf(language, run.main ?? '', run.argv),
    limits: run.limits,
    files:
      given === undefined
        ? files
        : [...files.filter(({ path }) => path !== stdinFile), { path: stdinFile, size: given.length, open: async () => given }],
    ...(given === undefined ? {} : { stdinFile }),
    ...(env === undefined ? {} : { environment: env }),
    dataSets: manifest.dataSets.map(({ path, object }) => ({ path, object, open: () => store.open(object) })),
    url: store.url ? (object) => store.url?.(object, 3_600_000) as Promise<string> : undefined,
    keep: async (name, content) => {
      const object = `${run.jobUid}/${name}`;
      await store.put(object, content, content.length);
      return object;
    },
  };
}
