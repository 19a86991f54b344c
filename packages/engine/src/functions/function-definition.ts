import type { TaskClass } from '@baton/domain';

/** A durable function, as the worker that has it describes it. */
export interface FunctionDefinition {
  /** Its name as a workflow, and the kind of its tasks. */
  id: string;
  /** Version of the code; '': any. */
  release: string;
  description: string;
  /** '': default. */
  queue: string;
  taskClass: TaskClass;
  tags: string[];
  priority: number;
  /** Of one go at it; 0: the default. */
  startToCloseMs: number;
}

/** As it is stored in place of a graph. Keys in this order, so that the same function has the same hash. */
export function functionForm(definition: FunctionDefinition): string {
  const { id, release, description, queue, taskClass, tags, priority, startToCloseMs } = definition;
  return JSON.stringify({
    form: 'function',
    engine: 2,
    name: id,
    release,
    description,
    queue,
    taskClass,
    tags: [...tags].sort(),
    priority,
    startToCloseMs,
  });
}

/** The function that a stored form describes; null where it is a graph. */
export function readFunctionForm(storedForm: string): FunctionDefinition | null {
  if (!storedForm.startsWith('{"form":"function"')) return null;
  const { name, release, description, queue, taskClass, tags, priority, startToCloseMs } = JSON.parse(storedForm);
  return { id: name, release, description, queue, taskClass, tags, priority, startToCloseMs };
}

/** The tag of workers that have this version of a function. */
export function releaseTag(id: string, release: string): string {
  return `workflow:${id}@${release}`.toLowerCase();
}

/** What no worker of an older protocol could do. */
export const FUNCTION_PROTOCOL_TAG = 'protocol>2';
