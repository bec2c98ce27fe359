/**
 * Receivers in a process of their own: each port answers every POST with `success` at once. It parses as little HTTP as possible, so that it
 * is not the limit. Commands come as lines: `hang N` makes the first N ports hang.
 */
import { createServer, type Socket } from 'node:net';

const count = Number(process.argv[2]);
const answer = Buffer.from('HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 7\r\n\r\nsuccess');
let hanging = 0;
let received = 0;
const latencies: number[] = [];

function receive(socket: Socket, index: number): void {
  let left: Buffer = Buffer.alloc(0);
  socket.setNoDelay(true);
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk: Buffer) => {
    left = left.length === 0 ? chunk : Buffer.concat([left, chunk]);
    for (;;) {
      const head = left.indexOf('\r\n\r\n');
      if (head < 0) return;
      const [, length = '0'] = /content-length: (\d+)/i.exec(left.toString('latin1', 0, head)) ?? [];
      const end = head + 4 + Number(length);
      if (left.length < end) return;
      const at = left.toString('latin1', head + 4, head + 40);
      left = left.subarray(end);
      if (index < hanging) continue;
      received += 1;
      // The body begins with the time of its trigger.
      const [, sent] = /^\{"at":(\d+)/.exec(at) ?? [];
      if (sent) latencies.push(performance.timeOrigin + performance.now() - Number(sent));
      socket.write(answer);
    }
  });
}

const ports: number[] = [];
for (let i = 0; i < count; i++) {
  const server = createServer((socket) => receive(socket, i));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  ports.push((server.address() as { port: number }).port);
}
process.send?.({ ports });
process.on('message', (message: { hang?: number; report?: boolean }) => {
  if (message.hang !== undefined) hanging = message.hang;
  if (message.report) {
    const sorted = latencies.splice(0).sort((a, b) => a - b);
    process.send?.({
      received,
      p50: sorted[Math.trunc(sorted.length / 2)] ?? 0,
      p99: sorted[Math.trunc(sorted.length * 0.99)] ?? 0,
      n: sorted.length,
    });
    received = 0;
  }
});
process.on('disconnect', () => process.exit(0));
