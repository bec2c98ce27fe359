// The oracle: a process of its own, which no disturbance kills. It appends notes to a file, and answers when they are on disk.
// Argument: the file. Prints its port.

import { closeSync, fdatasync, openSync, writeSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';

const [file = ''] = process.argv.slice(2);
const handle = openSync(file, 'a');

/** Notes that arrive during a write are written together by the next one. */
let waiting: { readonly socket: Socket; readonly lines: readonly string[] }[] = [];
let busy = false;
function write(): void {
  if (busy || waiting.length === 0) return;
  busy = true;
  const batch = waiting;
  waiting = [];
  writeSync(handle, batch.map(({ lines }) => `${lines.join('\n')}\n`).join(''));
  fdatasync(handle, (error) => {
    if (error) throw error;
    for (const { socket, lines } of batch) socket.write(`${lines.length}\n`);
    busy = false;
    write();
  });
}

const server = createServer((socket) => {
  let rest = '';
  socket.setEncoding('utf8');
  // The sender may be killed in the middle of a line. Half a line is not a note.
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk: string) => {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    if (lines.length === 0) return;
    waiting.push({ socket, lines });
    write();
  });
});
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  process.stdout.write(`port ${typeof address === 'object' && address ? address.port : 0}\n`);
});
process.on('SIGTERM', () => {
  closeSync(handle);
  process.exit(0);
});
