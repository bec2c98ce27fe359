import { createServer, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { expect, it } from 'vitest';
import { sendLatest } from './send-latest.ts';

const mib = 2 ** 20;

it('a reader that stops reading costs the memory of two texts at most, and gets the latest once it reads again', async () => {
  const answered = Promise.withResolvers<ServerResponse>();
  const server = createServer((_, response) => answered.resolve(response.writeHead(200)));
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const reader = connect((server.address() as AddressInfo).port, '127.0.0.1').pause();
  reader.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
  const response = await answered.promise;
  const send = sendLatest(response);
  for (let n = 1; n <= 100; n++) {
    send(`<${n}>${'x'.repeat(mib)}`);
    await new Promise((resolve) => setImmediate(resolve));
    expect(response.writableLength).toBeLessThan(2 * mib);
  }
  let read = '';
  reader.on('data', (bytes) => {
    read += bytes;
  });
  reader.resume();
  await expect.poll(() => read.includes('<100>'), { timeout: 5_000 }).toBe(true);
  expect(read.match(/<\d+>/g)?.length).toBeLessThan(20);
  reader.destroy();
  server.close();
});
