import fc from 'fast-check';
import { expect, it } from 'vitest';
import { readBody } from '../src/index.ts';

it('returns the bytes of a body within the limit however they are cut, and refuses a longer one after the chunk that passes it', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.uint8Array({ minLength: 1, maxLength: 50 }), { maxLength: 20 }), fc.nat(600), async (chunks, maxBytes) => {
      let pulled = 0;
      const body = new ReadableStream<Uint8Array>(
        {
          pull(controller) {
            const chunk = chunks[pulled];
            if (!chunk) return controller.close();
            pulled += 1;
            controller.enqueue(chunk);
          },
        },
        { highWaterMark: 0 },
      );
      const request = new Request('http://x', { method: 'PUT', body, duplex: 'half' } as RequestInit);
      const whole = Buffer.concat(chunks);
      if (whole.length <= maxBytes) {
        expect(await readBody(request, maxBytes)).toEqual(whole);
        return;
      }
      await expect(readBody(request, maxBytes)).rejects.toMatchObject({ code: 'body-too-large' });
      let bytes = 0;
      const passing = chunks.findIndex((chunk) => (bytes += chunk.length) > maxBytes);
      expect(pulled).toBe(passing + 1);
    }),
  );
});

it('reads nothing of a request without a body', async () => {
  expect((await readBody(new Request('http://x'), 10)).length).toBe(0);
});
