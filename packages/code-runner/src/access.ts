import { boundedCall, InvalidArgumentError, keyText } from '@holdfast/core';
import { ForbiddenError } from './errors.ts';

/** The action that an actor asks for. */
export type Action = 'read' | 'edit' | 'run' | 'stop' | 'remove';

/** The task that an action concerns. */
export interface Resource {
  readonly taskId: string;
  /** The actor who created the task. */
  readonly owner: string;
}

/**
 * Decides whether `actor` may do `action`. Without `read`, the task does not exist for the actor. A promise is waited for up to `callTimeout`: then
 * the call fails with CallTimeoutError, and `signal` aborts.
 */
export type Authorize = (actor: string, action: Action, resource: Resource, signal: AbortSignal) => boolean | Promise<boolean>;

/** An {@link Authorize} that answers in time or throws. */
export type Authorized = (actor: string, action: Action, resource: Resource) => boolean | Promise<boolean>;

/** Bounds the time that `authorize` may take. */
export function answeringIn(authorize: Authorize, ms: number): Authorized {
  return (actor, action, resource) => boundedCall((signal) => authorize(actor, action, resource, signal), { name: 'authorize', ms });
}

/** The person on whose behalf a call is made. Each call names one. */
export interface As {
  readonly actor: string;
}

/** The default of `authorize`: the owner of a task may do everything with it, others nothing. */
export const ownersOnly: Authorize = (actor, _, { owner }) => actor === owner;

/** @throws InvalidArgumentError unless the call names an actor */
export function actorOf(as: As | undefined): string {
  if (typeof as?.actor !== 'string') throw new InvalidArgumentError("The call names no actor; pass one, as in { actor: 'alice' }.");
  return keyText('actor', as.actor);
}

/** @throws ForbiddenError */
export async function allow(authorize: Authorized, actor: string, action: Action, resource: Resource): Promise<void> {
  if (!(await authorize(actor, action, resource))) throw new ForbiddenError(`${actor} may not ${action} the task ${resource.taskId}.`);
}
