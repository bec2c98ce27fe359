import { InvalidArgumentError, keyText } from '@holdfast/core';
import { ForbiddenError } from './errors.ts';

/** What somebody wants to do. */
export type Action = 'read' | 'edit' | 'run' | 'stop' | 'remove';

/** What it is to be done to. */
export interface Resource {
  readonly taskId: string;
  /** Who created the task. */
  readonly owner: string;
}

/** Whether `actor` may. */
export type Authorize = (actor: string, action: Action, resource: Resource) => boolean | Promise<boolean>;

/** Who asks; each call names it. */
export interface As {
  readonly actor: string;
}

/** The default: everybody has their own tasks. */
export const ownersOnly: Authorize = (actor, _, { owner }) => actor === owner;

/** @throws InvalidArgumentError unless the call says who asks */
export function actorOf(as: As | undefined): string {
  if (typeof as?.actor !== 'string') throw new InvalidArgumentError("Say who asks, as in { actor: 'alice' }.");
  return keyText('actor', as.actor);
}

/** @throws ForbiddenError */
export async function allow(authorize: Authorize, actor: string, action: Action, resource: Resource): Promise<void> {
  if (!(await authorize(actor, action, resource))) throw new ForbiddenError(`${actor} may not ${action} the task ${resource.taskId}.`);
}
