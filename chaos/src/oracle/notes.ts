import { connect, type Socket } from 'node:net';

/**
 * The notes that the oracle keeps, one line each:
 * - `accepted ID`: the work was confirmed to a caller as accepted
 * - `effect ID DETAIL`: the work took effect, outside of any transaction
 */
export type NoteKind = 'accepted' | 'effect';

/** A connection to the oracle. */
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
      for (const { failed } of this.#waiting.splice(0)) failed(new Error('The connection to the oracle has ended.'));
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

  /** Sends notes. Resolves when they are on disk. */
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

  /** Counts answers, which come in the order of the notes: one answer may cover several calls, or a part of one. */
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
