import { InvalidArgumentError, shownValue } from '@holdfast/core';

const most = 1_000;
const mostBytes = 65_536;

/** @throws InvalidArgumentError unless argv is a list of strings that a program can be started with */
export function checkArgv(argv: unknown): readonly string[] {
  if (!Array.isArray(argv))
    throw new InvalidArgumentError(
      `argv is ${shownValue(argv)}; give a list of strings, as in ["python3", "run.py", "--fast"]. No shell splits a line.`,
    );
  if (argv.length === 0) throw new InvalidArgumentError('argv is empty; name the program, or leave argv out to run the main file.');
  if (argv.length > most) throw new InvalidArgumentError(`argv has ${argv.length} parts; at most ${most} are allowed.`);
  let bytes = 0;
  for (const [i, part] of argv.entries()) {
    if (typeof part !== 'string') throw new InvalidArgumentError(`argv[${i}] is ${shownValue(part)}; each part must be a string.`);
    if (part.includes(String.fromCharCode(0)) || !part.isWellFormed())
      throw new InvalidArgumentError(`argv[${i}] holds a NUL character or half of a surrogate pair; remove it.`);
    bytes += Buffer.byteLength(part) + 1;
  }
  if (argv[0] === '') throw new InvalidArgumentError('argv[0] is empty; it names the program.');
  if (bytes > mostBytes) throw new InvalidArgumentError(`argv has ${bytes} bytes; at most ${mostBytes} are allowed.`);
  return argv as string[];
}

/**
 * Splits the command line of older clients (`execCommand`) into its parts: blanks separate them, quotes and backslashes keep text
 * together, as in a POSIX shell. Nothing is expanded. Syntax that needs a shell is refused, not passed on as text.
 * @throws InvalidArgumentError
 */
export function splitCommand(line: string): readonly string[] {
  return checkArgv(splitLine(line, 'execCommand'));
}

/**
 * The command of a main file with its arguments: a list, or a line that is split as {@link splitCommand} does.
 * @throws InvalidArgumentError
 */
export function withArguments(command: readonly string[], args: unknown): readonly string[] {
  const list = typeof args === 'string' ? splitLine(args, 'args') : args;
  if (!Array.isArray(list))
    throw new InvalidArgumentError(`args is ${shownValue(args)}; give a list of strings, as in ["--fast"], or one line.`);
  return checkArgv([...command, ...list]);
}

function splitLine(line: string, option: string): string[] {
  const parts: string[] = [];
  let part: string | undefined;
  let quote = '';
  for (let i = 0; i < line.length; i++) {
    const letter = line.charAt(i);
    if (quote === "'") {
      if (letter === "'") quote = '';
      else part = `${part ?? ''}${letter}`;
    } else if (letter === '\\') {
      const next = line.charAt(i + 1);
      if (next === '') throw new InvalidArgumentError(`${option} ends with a backslash; remove it, or add the character that it quotes.`);
      // Between double quotes a backslash stays in the text, except before a character that it quotes there.
      part = `${part ?? ''}${quote === '"' && !'"\\$`'.includes(next) ? letter : ''}${next}`;
      i += 1;
    } else if (letter === quote) {
      quote = '';
    } else if (quote === '' && (letter === '"' || letter === "'")) {
      quote = letter;
      part ??= '';
    } else if (
      '$`'.includes(letter) ||
      (quote === '' && '|&;<>()*?[]~#\n'.includes(letter) && !(part !== undefined && '~#'.includes(letter)))
    ) {
      throw new InvalidArgumentError(
        `${option} has ${JSON.stringify(letter)}, which only a shell understands; quote it with '…', or put the line into run.sh.`,
      );
    } else if (quote === '' && /\s/.test(letter)) {
      if (part !== undefined) parts.push(part);
      part = undefined;
    } else {
      part = `${part ?? ''}${letter}`;
    }
  }
  if (quote !== '') throw new InvalidArgumentError(`${option} has a quote ${quote} that is never closed.`);
  if (part !== undefined) parts.push(part);
  return parts;
}
