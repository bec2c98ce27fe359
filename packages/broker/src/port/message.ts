/** What travels. */
export interface Message {
  /** Unique for good: what an inbox tells duplicates by. At most 200 characters. */
  readonly id: string;
  readonly topic: string;
  /** Messages of one topic and key arrive in the order in which they were published. */
  readonly key?: string;
  /** Text without line breaks; names are lower-case tokens. Those that start with `ce_` are ours. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  readonly contentType: string;
}
