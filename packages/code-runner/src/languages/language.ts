import { InvalidArgumentError } from '@holdfast/core';
import { filePath } from '../files/path.ts';

/** What programs of a language are started with. `/code` holds the task's files, `/scratch` is writable. */
export interface Language {
  /** For example `python`. */
  readonly name: string;
  /** What people see. Default: the name. */
  readonly title?: string;
  /** Files of a new task, by path. With a file `run.sh`, that is what runs. */
  readonly template: Readonly<Record<string, string>>;
  /** Which of them is run. */
  readonly main: string;
  /** Image of the container on Kubernetes. The local sandbox uses what this machine has. */
  readonly image: string;
  /** Files of this machine that must be there for the local sandbox. */
  readonly requires: readonly string[];
  /** What a main file that is no shell script is run with, the file's path behind it. */
  readonly interpreter?: readonly string[];
  /** Run before the program, in `/code`; what it exits with, other than 0, fails the run as COMPILE. A shell script. */
  readonly compile?: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** Added to the limit of memory for the language's own use, in bytes. Default 0. */
  readonly memoryOverheadBytes?: number;
}

/**
 * A language of your own.
 * @throws InvalidArgumentError
 */
export function defineLanguage(language: Language): Language {
  const { name, template, main, image } = language;
  if (!/^[a-z][a-z0-9+-]{0,49}$/.test(name ?? ''))
    throw new InvalidArgumentError(`The language's name is ${JSON.stringify(name)}; use lower-case letters, digits, + and -, at most 50.`);
  for (const path of Object.keys(template ?? {})) filePath(path);
  if (!Object.hasOwn(template ?? {}, main))
    throw new InvalidArgumentError(`The main file ${JSON.stringify(main)} of ${name} is none of its template's; add it there.`);
  if (!image) throw new InvalidArgumentError(`${name} has no image; name the one that its programs run in on Kubernetes.`);
  return language;
}

/** What is run, in `/code`: the caller's `argv`, or the main file. */
export function commandOf(language: Language, main: string, argv: readonly string[] | null): readonly string[] {
  if (argv !== null) return argv;
  return main.endsWith('.sh') || !language.interpreter ? ['/bin/sh', main] : [...language.interpreter, main];
}
