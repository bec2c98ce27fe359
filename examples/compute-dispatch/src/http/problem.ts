import { z } from 'zod';

/** RFC 9457, as every refusal is answered. */
export const problemView = z.object({
  type: z.string(),
  title: z.string(),
  status: z.number(),
  detail: z.string(),
  instance: z.string(),
});

/** An error that the API answers as `application/problem+json` (RFC 9457). */
export class Problem extends Error {
  readonly status: number;
  readonly type: string;
  readonly title: string;

  constructor(status: number, type: string, title: string, detail: string) {
    super(detail);
    this.status = status;
    this.type = type;
    this.title = title;
  }

  body(instance: string): z.infer<typeof problemView> {
    return { type: `https://holdfast.dev/problems/${this.type}`, title: this.title, status: this.status, detail: this.message, instance };
  }
}

export function notFound(what: string): Problem {
  return new Problem(404, 'not-found', 'Not found', `There is no ${what}.`);
}

/** @throws Problem where there is nothing */
export function found<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw notFound(what);
  return value;
}
