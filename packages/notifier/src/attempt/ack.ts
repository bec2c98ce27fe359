/** A response, as it is judged. */
export interface JudgedResponse {
  readonly status: number;
  /** By lower-case name. */
  readonly headers: Readonly<Record<string, string>>;
  /** The first KiB, as UTF-8. */
  readonly body: string;
}

/** Decides whether a response acknowledges. Called for every status but 3xx and 410, which never do. Must not throw. */
export type Ack = (response: JudgedResponse) => boolean | { readonly ok: false; readonly detail: string };

const quotes = /^(["'`])(.*)\1$/s;

/** The ways to acknowledge. */
export const ack = {
  /**
   * Status 2xx and a body that equals `word`, whatever the case, but for white space and a BOM around it. Never a part of a longer
   * text: an error page may well say "success".
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

/** What was sent instead, for who has to mend the receiver. */
function nearMiss(text: string, wanted: string): string {
  if (text === '') return 'the body is empty';
  const [, , inner] = quotes.exec(text) ?? [];
  if (inner?.trim() === wanted) return `the body is ${wanted} in quotes; send it without`;
  if (/^\s*<(!doctype|html|\?xml|body|p|div)/.test(text)) return 'the body is HTML';
  if (/^[[{]/.test(text)) return `the body is JSON; send the text ${wanted}`;
  if (text.includes(wanted)) return `the body holds ${wanted} among other text`;
  return `the body is not ${wanted}`;
}
