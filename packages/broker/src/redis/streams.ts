import { laneOf } from '@holdfast/core';
import type { Redis } from 'ioredis';
import { fromHeaders, toHeaders } from '../adapter/cloud-events.ts';
import type { Message } from '../port/message.ts';

export interface StreamLayout {
  readonly prefix: string;
  /** Streams per topic. */
  readonly lanes: number;
}

/** The stream of one lane of a topic. The braces keep all streams of a topic in one slot of a cluster. */
export function streamKey({ prefix }: StreamLayout, topic: string, lane: number | 'dead'): string {
  return `${prefix}:{${topic}}:${lane}`;
}

/** The lane of the message's key; without a key, lanes take turns. */
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

/** A stream entry as ioredis returns it in buffers; `null` fields mean that it was deleted. */
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

/** Creates the group on each stream, at the stream's beginning, unless it exists. */
export async function ensureGroup(client: Redis, streams: readonly string[], group: string): Promise<void> {
  for (const stream of streams) {
    await client.xgroup('CREATE', stream, group, '0', 'MKSTREAM').catch((error: Error) => {
      if (!error.message.startsWith('BUSYGROUP')) throw error;
    });
  }
}

/** The id of the stream's newest entry, `0-0` if it is empty. */
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
