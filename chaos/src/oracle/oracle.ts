import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until, Victims } from '@holdfast/core/testing';
import { type NoteKind, Notes } from './notes.ts';

/** A witness in a process of its own, which no disturbance kills. */
export class Oracle {
  readonly port: number;
  readonly notes: Notes;
  readonly #file: string;
  readonly #processes: Victims;

  private constructor(file: string, port: number, notes: Notes, processes: Victims) {
    this.#file = file;
    this.port = port;
    this.notes = notes;
    this.#processes = processes;
  }

  static async start(): Promise<Oracle> {
    const file = join(mkdtempSync(join(tmpdir(), 'holdfast-oracle-')), 'notes');
    const processes = new Victims(join(import.meta.dirname, 'process.ts'));
    const oracle = processes.start(file);
    const port = await until(() => Number(/port (\d+)/.exec(oracle.output())?.[1] ?? 0) || undefined, { what: 'the oracle is up' });
    return new Oracle(file, port, await Notes.open(port), processes);
  }

  /** All notes of a kind, in the order in which they were kept, repeats included. */
  read(kind: NoteKind): string[] {
    const start = `${kind} `;
    return readFileSync(this.#file, 'utf8')
      .split('\n')
      .filter((line) => line.startsWith(start))
      .map((line) => line.slice(start.length));
  }

  async stop(): Promise<void> {
    this.notes.close();
    await this.#processes.end();
    rmSync(join(this.#file, '..'), { recursive: true, force: true });
  }
}
