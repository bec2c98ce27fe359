import type { Inspection } from './inspect.ts';
import { type TaskDetails, type TaskOf, taskDetailsOf, taskOf } from './task.ts';
import { listQuery, type TaskQuery } from './task-query.ts';

/** Finds tasks: see {@link CompensateBiz.find}. */
export async function findTasks(inspection: Inspection, query: TaskQuery): Promise<readonly TaskOf<string>[]> {
  return (await inspection.records(listQuery(query))).map(taskOf);
}

/** Reads one task with its context and its failed attempts: see {@link CompensateBiz.get}. */
export async function getTask(inspection: Inspection, id: string): Promise<(TaskOf<string> & TaskDetails) | undefined> {
  const found = await inspection.record(id);
  return found && { ...taskOf(found.row), ...taskDetailsOf(found) };
}
