import { type FunctionClock, releaseTag } from '@baton/client/durable';
import { TaskClass } from '@baton/contract';
import type { Executor, Outcome } from '@baton/runtime';
import { isolatedTasks, isolationOf } from './isolated/isolated-tasks.ts';
import { check, decodeInput, encode, issuesText, refused, runTask } from './run-task.ts';
import { byId, isWorkflow, type Runnable, type RunnableWorkflow, type TaskSource } from './task-definition.ts';
import { runWorkflow } from './workflow-executor.ts';

/**
 * Carries tasks out by the functions that they export: in the main thread, or, where a task asks for it, in a thread or process of its own. The input is decoded from JSON (`undefined`
 * when there is none) or handed over as bytes; a returned `Uint8Array` travels as bytes, what `ctx.blob` gave names its blob, all else is JSON,
 * `undefined` as null. What a task throws is an EVALUATION_ERROR.
 *
 * @param clock of durable functions. Default: this machine's.
 * @param surroundings variables that isolated tasks find besides those of their own
 */
export function functionExecutor(
  tasks: Iterable<Runnable> | TaskSource,
  clock?: FunctionClock,
  surroundings: Readonly<Record<string, string>> = {},
): Executor {
  const isolated = isolatedTasks(surroundings);
  const source = isSource(tasks) ? tasks : fixed(tasks);
  const workflows = () => source.kinds.map((kind) => source.get(kind)).filter(isWorkflow);
  return {
    type: 'function',
    get kinds() {
      return source.kinds;
    },
    get functions() {
      return workflows().map(describe);
    },
    get tags() {
      return workflows().flatMap(({ id, version }) => (version === undefined ? [] : [releaseTag(id, version)]));
    },
    onKindsChange: (listener) => source.onKindsChange?.(listener),
    start(lease, context) {
      const task = source.get(lease.kind);
      if (task === undefined) {
        return refused(`no task "${lease.kind}" is registered on this worker`, false);
      }
      if (isWorkflow(task)) {
        return runWorkflow(task, lease, context, codec, clock);
      }
      const { mode } = isolationOf(task);
      if (mode === undefined) {
        return runTask(task, lease, context);
      }
      const module = task.module ?? source.moduleOf?.(lease.kind);
      if (module === undefined) {
        return refused(
          `task "${task.id}" is to be isolated, and a thread or a process cannot be handed its code: load it by a path, or say \`module: import.meta.url\``,
          true,
        );
      }
      return isolated.run(task, module, lease, context);
    },
    warm: () => isolated.warm(),
    async close() {
      source.close?.();
      await isolated.close();
    },
  };
}

const codec = {
  decode: decodeInput,
  async check(workflow: RunnableWorkflow, input: unknown): Promise<{ value: unknown } | { refusal: Outcome }> {
    const answer = await check(workflow.input, input);
    return answer.issues === undefined
      ? { value: answer.value }
      : { refusal: refused(`the input of workflow "${workflow.id}" does not fit: ${issuesText(answer)}`, true) };
  },
  encode,
};

function describe({
  id,
  version,
  description,
  queue,
  taskClass,
  tags,
  priority,
  startToCloseTimeoutMs,
}: RunnableWorkflow) {
  return {
    id,
    release: version ?? '',
    description: description ?? '',
    queue: queue ?? '',
    taskClass: TaskClass[(taskClass ?? '').toUpperCase() as keyof typeof TaskClass] ?? TaskClass.UNSPECIFIED,
    tags: [...(tags ?? [])],
    priority: priority ?? 0,
    startToCloseMs: BigInt(Math.round(startToCloseTimeoutMs ?? 0)),
  };
}

function isSource(tasks: Iterable<Runnable> | TaskSource): tasks is TaskSource {
  return !(Symbol.iterator in tasks);
}

function fixed(tasks: Iterable<Runnable>): TaskSource {
  const map = byId(tasks);
  return { get: (kind) => map.get(kind), kinds: [...map.keys()] };
}
