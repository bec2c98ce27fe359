import { InvalidArgumentError, shownValue } from '@holdfast/core';
import { filePath } from '../files/path.ts';

/** A language: how its programs are compiled and started. They run in `/code`, where the task's files are; `/scratch` is writable. */
export interface Language {
  /** Name in the API, for example `python`. */
  readonly name: string;
  /** Name for display. Default: `name`. */
  readonly title?: string;
  /** Files of a new task: contents by path. */
  readonly template: Readonly<Record<string, string>>;
  /** Path of the template's file that runs start. */
  readonly main: string;
  /** Container image on Kubernetes. The local sandbox uses the programs of this machine instead. */
  readonly image: string;
  /** Files that must exist on this machine for the local sandbox, such as the interpreter. */
  readonly requires: readonly string[];
  /** Command that runs a main file other than `*.sh`; the file's path is appended. Default: `/bin/sh`. */
  readonly interpreter?: readonly string[];
  /** Shell script that is run in `/code` before the program. An exit code other than 0 fails the run with COMPILE. */
  readonly compile?: string;
  /** Environment variables of the program. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Bytes that are added to the memory limit for the language's own use. Default 0. */
  readonly memoryOverheadBytes?: number;
}

/**
 * Checks a language of your own, for the option `languages`.
 * @throws InvalidArgumentError
 */
export function defineLanguage(language: Language): Language {
  const { name, template, main, image } = language;
  if (!/^[a-z][a-z0-9+-]{0,49}$/.test(name ?? ''))
    throw new InvalidArgumentError(`The language's name is ${shownValue(name)}; use lower-case letters, digits, + and -, at most 50.`);
  for (const path of Object.keys(template ?? {})) filePath(path);
  if (!Object.hasOwn(template ?? {}, main))
    throw new InvalidArgumentError(`The template of ${name} has no file ${JSON.stringify(main)}; add it, or change main.`);
  if (!image) throw new InvalidArgumentError(`${name} has no image; name the container image of its programs on Kubernetes.`);
  return language;
}

/** The command to run in `/code`: the caller's `argv`, or the main file with its interpreter. */
export function commandOf(language: Language, main: string, argv: readonly string[] | null): readonly string[] {
  if (argv !== null) return argv;
  return main.endsWith('.sh') || !language.interpreter ? ['/bin/sh', main] : [...language.interpreter, main];
}
