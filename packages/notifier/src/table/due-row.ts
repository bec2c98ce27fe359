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
  /** The URL's hash, or the endpoint that subscribed; see `target.ts`. Empty in rows of earlier versions. */
  readonly target: string;
  /** How often a person had it sent again. With `notifyTimes`, the version of the notification that an attempt starts from. */
  readonly resends: number;
  /** True if its next attempt was already started, by a worker that vanished. */
  readonly orphan: boolean;
  /** True if a person had it sent again after that attempt had started. */
  readonly resent: boolean;
}
