import { boundedCall, InvalidArgumentError, keyText } from '@holdfast/core';
import { ForbiddenError } from './errors.ts';

/** The action that an actor asks for. `attach` gives the programs of a task an object of the file store to read. */
export type Action = 'read' | 'edit' | 'run' | 'stop' | 'remove' | 'attach';

/** The task that an action concerns. */
export interface Resource {
  /** Empty for an object that is attached to a task while the task is created. */
  readonly taskId: string;
  /** The actor who created the task. */
  readonly owner: string;
  /** With `attach`: the name of the object. It starts with `dataSetPrefix(owner)`; whether the actor may read it is yours to decide. */
  readonly object?: string;
}

/**
 * Decides whether `actor` may do `action`. Without `read`, the task does not exist for the actor. Return `false` for actions that you
 * do not know. A promise is waited for up to `callTimeout`: then the call fails with CallTimeoutError, and `signal` aborts.
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

/** The default of `authorize`: the owner of a task may do everything with it but attach data sets, others nothing. */
export const ownersOnly: Authorize = (actor, action, { owner }) => actor === owner && action !== 'attach';

/** @throws InvalidArgumentError unless the call names an actor */
export function actorOf(as: As | undefined): string {
  if (typeof as?.actor !== 'string') throw new InvalidArgumentError("The call names no actor; pass one, as in { actor: 'alice' }.");
  return keyText('actor', as.actor);
}

/** @throws ForbiddenError */
export async function allow(authorize: Authorized, actor: string, action: Action, resource: Resource): Promise<void> {
  if (!(await authorize(actor, action, resource))) {
    const { taskId, object } = resource;
    throw new ForbiddenError(
      `${actor} may not ${action} ${object === undefined ? `the task ${taskId}` : `the object ${object}: authorize has to allow it`}.`,
    );
  }
}
