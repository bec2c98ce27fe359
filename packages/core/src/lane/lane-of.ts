/** Which of `lanes` a key belongs to: FNV-1a over its UTF-8 bytes. Part of what travels: never changed. */
export function laneOf(key: string, lanes: number): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(key)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash % lanes;
}
