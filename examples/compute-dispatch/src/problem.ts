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

  body(instance: string): Record<string, unknown> {
    return { type: `https://holdfast.dev/problems/${this.type}`, title: this.title, status: this.status, detail: this.message, instance };
  }
}
