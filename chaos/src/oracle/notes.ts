import { connect, type Socket } from 'node:net';

/**
 * What is told to the oracle, one line each:
 * - `accepted ID`: a caller was answered that this work is taken
 * - `effect ID DETAIL`: it took effect, outside of any transaction
 */
export type NoteKind = 'accepted' | 'effect';

/** A line to the oracle. */
export class Notes {
  readonly #socket: Socket;
  readonly #waiting: { left: number; readonly done: () => void; readonly failed: (error: Error) => void }[] = [];

  private constructor(socket: Socket) {
    this.#socket = socket;
    let rest = '';
    socket.setEncoding('utf8').setNoDelay();
    socket.on('data', (chunk: string) => {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) this.#kept(Number(line));
    });
    const end = (): void => {
      for (const { failed } of this.#waiting.splice(0)) failed(new Error('The oracle is gone.'));
    };
    socket.on('error', end).on('close', end);
  }

  static async open(port: number): Promise<Notes> {
    const socket = connect(port, '127.0.0.1');
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve).once('error', reject);
    });
    return new Notes(socket);
  }

  /** Resolves when the notes are on the disk. */
  note(kind: NoteKind, ids: readonly string[]): Promise<void> {
    if (ids.length === 0) return Promise.resolve();
    return new Promise((done, failed) => {
      this.#waiting.push({ left: ids.length, done, failed });
      this.#socket.write(ids.map((id) => `${kind} ${id}\n`).join(''));
    });
  }

  close(): void {
    this.#socket.end();
  }

  /** Answers come in the order of the questions, some together, some in parts. */
  #kept(count: number): void {
    let left = count;
    while (left > 0) {
      const first = this.#waiting[0];
      if (!first) return;
      const now = Math.min(left, first.left);
      first.left -= now;
      left -= now;
      if (first.left === 0) this.#waiting.shift()?.done();
    }
  }
}
