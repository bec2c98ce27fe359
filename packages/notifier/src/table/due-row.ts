/** A notification that is due, with all that its attempt needs. */
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
  /** `null` where it is long: see `DueReader.body`. */
  readonly params: string | null;
  /** Its next attempt was started by a worker that vanished. */
  readonly orphan: boolean;
}
