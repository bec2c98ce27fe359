/**
 * The command of a run, or `undefined` for the main file alone. Arguments are split at blanks; quotes keep a part together. Input becomes the
 * program's standard input.
 */
export function commandOf({ main, interpreter, line, input }) {
  const parts = [...line.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map(([, double, single, bare]) => double ?? single ?? bare);
  if (parts.length === 0 && input === '') return undefined;
  const program = main.endsWith('.sh') || !interpreter ? ['/bin/sh', main, ...parts] : [...interpreter, main, ...parts];
  if (input === '') return program;
  return ['/bin/sh', '-c', 'input=$1; shift; printf %s "$input" | "$@"', 'run', input, ...program];
}
