import { InvalidArgumentError, keyText } from '@holdfast/core';
import { ForbiddenError } from './errors.ts';

/** The action that an actor asks for. */
export type Action = 'read' | 'edit' | 'run' | 'stop' | 'remove';

/** The task that an action concerns. */
export interface Resource {
  readonly taskId: string;
  /** The actor who created the task. */
  readonly owner: string;
}

/** Decides whether `actor` may do `action`. Without `read`, the task does not exist for the actor. */
export type Authorize = (actor: string, action: Action, resource: Resource) => boolean | Promise<boolean>;

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
export async function allow(authorize: Authorize, actor: string, action: Action, resource: Resource): Promise<void> {
  if (!(await authorize(actor, action, resource))) throw new ForbiddenError(`${actor} may not ${action} the task ${resource.taskId}.`);
}
