import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** A step of a page for its reader. */
type Step =
  | { readonly do: 'write'; readonly file: string; readonly text: string }
  | { readonly do: 'run'; readonly command: string }
  | { readonly do: 'start'; readonly command: string; readonly until: string }
  | { readonly do: 'stop' }
  | { readonly do: 'expect'; readonly lines: readonly string[]; readonly of: 'command' | 'background' };

/**
 * Reads a page. Blocks with a file name in their info string are files, and `sh` blocks are commands. Each line of a `text` block after a
 * command must be somewhere in its output. Comments tell what a reader knows anyway: `background: TEXT` before a command that keeps running
 * (wait until it prints TEXT), `stop` for Ctrl-C, `printed` before output of the command in the background.
 */
export function stepsOf(markdown: string): readonly Step[] {
  const steps: Step[] = [];
  let note: string | undefined;
  for (const match of markdown.matchAll(/<!-- (stop|printed|background: .+?) -->|```(\w+)(?: \[([^\]]+)\])?\n([\s\S]*?)```/g)) {
    const [, comment, language, file, text = ''] = match;
    if (comment === 'stop') steps.push({ do: 'stop' });
    else if (comment !== undefined) note = comment;
    else {
      if (file !== undefined) steps.push({ do: 'write', file, text });
      else if (language === 'sh' && note?.startsWith('background: '))
        steps.push({ do: 'start', command: text.trim(), until: note.slice('background: '.length) });
      else if (language === 'sh') steps.push({ do: 'run', command: text.trim() });
      else if (language === 'text')
        steps.push({ do: 'expect', lines: text.trim().split('\n'), of: note === 'printed' ? 'background' : 'command' });
      note = undefined;
    }
  }
  return steps;
}

/** Follows a page in a folder, and fails if the output differs from that on the page. */
export async function followPage(markdown: string, folder: string, env: NodeJS.ProcessEnv, say: (line: string) => void): Promise<void> {
  let here = folder;
  let printed = '';
  let background: Running | undefined;
  try {
    for (const step of stepsOf(markdown)) {
      if (step.do === 'write') writeFileSync(join(here, step.file), step.text);
      if (step.do === 'stop') await background?.end();
      if (step.do === 'start') {
        say(`$ ${step.command} &`);
        background = new Running(step.command, here, env);
        await background.prints(step.until);
      }
      if (step.do === 'run') {
        say(step.command.replace(/^/gm, '$ '));
        // Each command has a shell of its own. The next shell starts in the folder in which this one ended.
        const running = new Running(`set -e\n${step.command}\nprintf '\\nfolder:%s\\n' "$PWD"`, here, env);
        const code = await running.ended;
        if (code !== 0) throw new Error(`"${step.command}" ended with ${code}:\n${running.output}`);
        here = /\nfolder:(.+)\n/.exec(running.output)?.[1] ?? here;
        printed = running.output;
      }
      if (step.do === 'expect')
        for (const line of step.lines) {
          if (step.of === 'background') await background?.prints(line);
          else if (!printed.includes(line))
            throw new Error(`The page says that ${JSON.stringify(line)} is printed; what was printed is:\n${printed}`);
        }
    }
  } finally {
    await background?.end();
  }
}

/** A command in a process group of its own, so that the processes that it starts end with it. */
class Running {
  readonly #child: ChildProcess;
  output = '';
  readonly ended: Promise<number | null>;

  constructor(command: string, cwd: string, env: NodeJS.ProcessEnv) {
    this.#child = spawn('bash', ['-c', command], { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream?.on('data', (data) => {
        this.output += data;
      });
    this.ended = once(this.#child, 'close').then(([code]) => code as number | null);
  }

  async prints(text: string): Promise<void> {
    for (let i = 0; i < 300; i++) {
      if (this.output.includes(text)) return;
      await sleep(100);
    }
    throw new Error(`The page says that ${JSON.stringify(text)} is printed; what was printed in 30 s is:\n${this.output}`);
  }

  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const { pid } = this.#child;
    if (pid !== undefined) process.kill(-pid, 'SIGINT');
    const late = setTimeout(() => pid !== undefined && process.kill(-pid, 'SIGKILL'), 5_000);
    await this.ended;
    clearTimeout(late);
  }
}
