import { InvalidArgumentError, shownValue } from '@holdfast/core';

/** A program's standard input and environment variables, besides those that every program has. */
export interface RunInput {
  /** Text that the program reads from standard input. Default: nothing. */
  readonly stdin?: string;
  /** Environment variables by name. Default: none. */
  readonly env?: Readonly<Record<string, string>>;
}

/** The most that a run may be given. */
const most = { stdinBytes: 262_144, names: 100, valueBytes: 8_192, envBytes: 32_768 } as const;

/** Variables with which programs find the sandbox, and others of the shell that starts them. */
const reserved = new Set([
  ...['PATH', 'HOME', 'TMPDIR', 'USER', 'RUN_ID', 'OUT_DIR', 'DATA_DIR', 'PWD', 'OLDPWD'],
  ...['IFS', 'ENV', 'BASH_ENV', 'SHELLOPTS', 'BASHOPTS', 'PS4', 'GLIBC_TUNABLES', 'GCONV_PATH', 'LOCPATH', 'NLSPATH'],
]);
/** Variables of the dynamic loader, of memory allocation and of the cluster. */
const reservedPrefixes = ['LD_', 'DYLD_', 'MALLOC_', 'KUBERNETES_'];

/** @throws InvalidArgumentError that names what can't be given to a program */
export function checkInput({ stdin, env }: { readonly stdin?: unknown; readonly env?: unknown }): RunInput {
  if (stdin !== undefined) {
    if (typeof stdin !== 'string' || !stdin.isWellFormed())
      throw new InvalidArgumentError(`stdin is ${shownValue(stdin)}; give a string without half of a surrogate pair.`);
    const bytes = Buffer.byteLength(stdin);
    if (bytes > most.stdinBytes)
      throw new InvalidArgumentError(`stdin has ${bytes} bytes; at most ${most.stdinBytes} are allowed. Write a file of the task instead.`);
  }
  return { ...(stdin === undefined ? {} : { stdin }), ...(env === undefined ? {} : { env: checkEnv(env) }) };
}

function checkEnv(env: unknown): Readonly<Record<string, string>> {
  if (typeof env !== 'object' || env === null || Array.isArray(env))
    throw new InvalidArgumentError(`env is ${shownValue(env)}; give an object of strings, as in { "LEVEL": "3" }.`);
  const entries = Object.entries(env);
  if (entries.length > most.names) throw new InvalidArgumentError(`env has ${entries.length} names; at most ${most.names} are allowed.`);
  let all = 0;
  for (const [name, value] of entries) {
    if (!/^[A-Za-z_][A-Za-z0-9_]{0,99}$/.test(name))
      throw new InvalidArgumentError(
        `env has the name ${shownValue(name)}; use letters, digits and _, at most 100, and no digit at the beginning.`,
      );
    if (reserved.has(name) || reservedPrefixes.some((prefix) => name.startsWith(prefix)))
      throw new InvalidArgumentError(`env has the name ${name}, which the sandbox, its shell or its loader uses; choose another.`);
    if (typeof value !== 'string' || value.includes('\0') || !value.isWellFormed())
      throw new InvalidArgumentError(`env.${name} is ${shownValue(value)}; give a string without NUL or half of a surrogate pair.`);
    const bytes = Buffer.byteLength(value);
    if (bytes > most.valueBytes) throw new InvalidArgumentError(`env.${name} has ${bytes} bytes; at most ${most.valueBytes} are allowed.`);
    all += name.length + bytes + 2;
  }
  if (all > most.envBytes) throw new InvalidArgumentError(`env has ${all} bytes in all; at most ${most.envBytes} are allowed.`);
  return Object.fromEntries(entries) as Record<string, string>;
}
