import { laneOf } from '@holdfast/core';
import type { Redis } from 'ioredis';
import { fromHeaders, toHeaders } from '../adapter/cloud-events.ts';
import type { Message } from '../port/message.ts';

export interface StreamLayout {
  readonly prefix: string;
  /** Streams per topic. */
  readonly lanes: number;
}

/** The stream of one lane of a topic; the braces keep a topic in one slot of a cluster. */
export function streamKey({ prefix }: StreamLayout, topic: string, lane: number | 'dead'): string {
  return `${prefix}:{${topic}}:${lane}`;
}

/** Messages with a key go to its lane, the others in turn. */
export function laneFor(layout: StreamLayout, message: Message, turn: number): number {
  return message.key === undefined ? turn % layout.lanes : laneOf(message.key, layout.lanes);
}

export function fields(message: Message, source: string): (string | Buffer)[] {
  return [
    'headers',
    JSON.stringify(toHeaders(message, source)),
    'body',
    Buffer.from(message.body.buffer, message.body.byteOffset, message.body.byteLength),
  ];
}

/** An entry as ioredis gives it with buffers. */
export type RawEntry = readonly [id: Buffer, fields: readonly Buffer[] | null];

export function readEntry([id, raw]: RawEntry, topic: string, stream: string): Message {
  let headers: Record<string, string> = {};
  let body: Uint8Array = new Uint8Array();
  for (let i = 0; raw && i + 1 < raw.length; i += 2) {
    const name = raw[i]?.toString();
    const value = raw[i + 1];
    if (name === 'headers') headers = parseHeaders(value?.toString() ?? '{}');
    else if (name === 'body' && value) body = value;
  }
  return fromHeaders(headers, topic, `${stream}/${id.toString()}`, body);
}

/** Creates a group on each stream, from its beginning; one that exists is left as it is. */
export async function ensureGroup(client: Redis, streams: readonly string[], group: string): Promise<void> {
  for (const stream of streams) {
    await client.xgroup('CREATE', stream, group, '0', 'MKSTREAM').catch((error: Error) => {
      if (!error.message.startsWith('BUSYGROUP')) throw error;
    });
  }
}

/** The id of a stream's newest entry. */
export async function lastId(client: Redis, stream: string): Promise<string> {
  const [entry] = await client.xrevrange(stream, '+', '-', 'COUNT', 1);
  return entry?.[0] ?? '0-0';
}

function parseHeaders(text: string): Record<string, string> {
  try {
    const value: unknown = JSON.parse(text);
    return Object.fromEntries(Object.entries(value as object).map(([name, one]) => [name, String(one)]));
  } catch {
    return {};
  }
}
