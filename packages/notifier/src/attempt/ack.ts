/** The part of a response that decides whether it acknowledges. */
export interface JudgedResponse {
  readonly status: number;
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string>>;
  /** The first 1,024 bytes, decoded as UTF-8. */
  readonly body: string;
}

/**
 * Decides whether a response acknowledges the notification. Called for every status except 3xx and 410, which never acknowledge. A `detail`
 * is stored with the attempt. If it throws, the attempt fails.
 */
export type Ack = (response: JudgedResponse) => boolean | { readonly ok: false; readonly detail: string };

const quotes = /^(["'`])(.*)\1$/s;

/** Common ways to acknowledge a notification. */
export const ack = {
  /**
   * Status 2xx and a body that equals `word`, ignoring case, surrounding white space and a BOM. A longer text that contains the word does
   * not acknowledge: an error page may well say "success".
   */
  body(word: string): Ack {
    const wanted = word.toLowerCase();
    return ({ status, body }) => {
      if (!is2xx(status)) return false;
      const text = plain(body).toLowerCase();
      return text === wanted ? true : { ok: false, detail: nearMiss(text, wanted) };
    };
  },
  /** Any status 2xx. */
  status2xx(): Ack {
    return ({ status }) => is2xx(status);
  },
} as const;

function is2xx(status: number): boolean {
  return status >= 200 && status < 300;
}

function plain(body: string): string {
  return body.replace(/^\uFEFF/, '').trim();
}

/** Describes the body that was sent instead, for the person who has to fix the receiver. */
function nearMiss(text: string, wanted: string): string {
  if (text === '') return 'the body is empty';
  const [, , inner] = quotes.exec(text) ?? [];
  if (inner?.trim() === wanted) return `the body is ${wanted} in quotes; send it without`;
  if (/^\s*<(!doctype|html|\?xml|body|p|div)/.test(text)) return 'the body is HTML';
  if (/^[[{]/.test(text)) return `the body is JSON; send the text ${wanted}`;
  if (text.includes(wanted)) return `the body contains ${wanted} among other text`;
  return `the body is not ${wanted}`;
}
