const encoder = new TextEncoder();

/** The lane of a key, from 0 to `lanes` - 1: FNV-1a over its UTF-8 bytes. Stored rows and sent messages depend on it: never change it. */
export function laneOf(key: string, lanes: number): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) {
    const code = key.charCodeAt(i);
    if (code > 127) return hashOf(encoder.encode(key)) % lanes;
    hash = Math.imul(hash ^ code, 0x01000193) >>> 0;
  }
  return hash % lanes;
}

function hashOf(bytes: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}
