/** A notification that is due, with the data that its attempt needs. */
export interface DueRow {
  readonly id: string;
  readonly endpointId: string;
  readonly dueAt: string;
  readonly notifyTimes: number;
  readonly trigger: string;
  readonly tenant: string;
  readonly subjectId: string;
  readonly status: string;
  readonly sequence: number;
  readonly supersede: boolean;
  readonly webhookId: string;
  readonly url: string;
  readonly contentType: string;
  readonly keyRef: string | null;
  readonly sealedKey: string | null;
  readonly headers: string | null;
  /** `null` if the body is long; `DueReader.body` reads it. */
  readonly params: string | null;
  /** True if its next attempt was already started, by a worker that vanished. */
  readonly orphan: boolean;
}
