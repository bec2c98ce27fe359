/** A message as it is published and received. */
export interface Message {
  /** Never used again: an inbox recognises duplicates by it. At most 191 characters. */
  readonly id: string;
  readonly topic: string;
  /** Messages of one topic and key are delivered in the order in which they were published. Without a key there is no order. */
  readonly key?: string;
  /** Values are text without line breaks; names are lower-case tokens. Names that start with `ce_` are reserved for CloudEvents. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
  readonly contentType: string;
}
