import { randomFillSync } from 'node:crypto';

const pool = new Uint8Array(16 * 256);
let offset = pool.length;
let lastMs = 0;
let counter = 0;

/**
 * A UUID of version 7 (RFC 9562, 5.7): 48 bits of Unix milliseconds, then a 12-bit counter that keeps the ids of one process ascending
 * within a millisecond (6.2, method 1), then 62 random bits. When the clock steps back, the last time is used until the clock has passed it.
 */
export function uuidv7(now: number = Date.now()): string {
  if (now > lastMs) {
    lastMs = now;
    counter = randomByte() & 0x7f;
  } else if (++counter > 0xfff) {
    lastMs += 1;
    counter = 0;
  }
  const time = lastMs.toString(16).padStart(12, '0');
  const rest = take(8);
  rest[0] = ((rest[0] ?? 0) & 0x3f) | 0x80;
  const tail = Buffer.from(rest.buffer, rest.byteOffset, 8).toString('hex');
  return `${time.slice(0, 8)}-${time.slice(8)}-7${counter.toString(16).padStart(3, '0')}-${tail.slice(0, 4)}-${tail.slice(4)}`;
}

function take(bytes: number): Uint8Array {
  if (offset + bytes > pool.length) {
    randomFillSync(pool);
    offset = 0;
  }
  offset += bytes;
  return pool.subarray(offset - bytes, offset);
}

function randomByte(): number {
  return take(1)[0] ?? 0;
}
