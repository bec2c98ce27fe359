const encoder = new TextEncoder();

/** Which of `lanes` a key belongs to: FNV-1a over its UTF-8 bytes. Part of what travels and of what is stored: never changed. */
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
