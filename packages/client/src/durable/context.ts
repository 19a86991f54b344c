import type { TaskSpec } from '@baton/contract';
import { taskSpecOf } from '../tasks/task-spec.ts';
import type { ChildOptions, RunTaskOptions, WorkflowContext } from '../workflows/workflow-function.ts';
import { WorkflowUsageError } from './errors.ts';
import type { FunctionRun } from './function-run.ts';
import type { JournalPayload, TaskCommand } from './journal.ts';
import { encodeValue } from './payload.ts';

/** A task as a value, as far as it is needed here. */
type Named = RunTaskOptions & { readonly id: string };

/** The context of a function, over one go at it. `log` gets only lines that are new. */
export function workflowContext(run: FunctionRun, runId: string, log: (text: string) => void): WorkflowContext {
  return {
    runId,
    signal: run.signal,
    step: (name, code, options) => run.step(name, code, options) as Promise<never>,
    run: async (task: Named | string, input?: unknown, options: RunTaskOptions = {}) => {
      const kind = typeof task === 'string' ? task : task?.id;
      if (typeof kind !== 'string') throw new WorkflowUsageError('ctx.run needs a task, or its kind');
      const policy = typeof task === 'string' ? options : { ...definedOf(task), ...options };
      return run.task(options.name ?? kind, taskCommand(kind, inputOf(input, `task \`${kind}\``), policy)) as never;
    },
    all: (values) => Promise.all(values) as Promise<never>,
    sleep: (duration) => run.sleep(duration),
    sleepUntil: (time) => run.sleepUntil(time instanceof Date ? time.getTime() : time),
    waitFor: (name, options) => run.waitFor(name, options?.timeout) as Promise<never>,
    child: async (workflow: { readonly id: string } | string, input?: unknown, options: ChildOptions = {}) => {
      const id = typeof workflow === 'string' ? workflow : workflow?.id;
      if (typeof id !== 'string') throw new WorkflowUsageError('ctx.child needs a workflow, or its name');
      const child = { workflow: id, input: inputOf(input, `workflow \`${id}\``), key: options.key };
      return run.child(options.name ?? id, child) as never;
    },
    now: () => run.now(),
    random: () => run.random(),
    uuid: () => run.uuid(),
    log: (text) => {
      if (!run.replaying) log(String(text));
    },
  };
}

function inputOf(input: unknown, of: string): JournalPayload | undefined {
  return input === undefined ? undefined : encodeValue(input, `the input of ${of}`);
}

function taskCommand(kind: string, input: JournalPayload | undefined, policy: RunTaskOptions): TaskCommand {
  const { queue, taskClass, tags, priority, startToCloseTimeoutMs, retry, artifacts } = policy;
  const spec = specOf(kind, policy);
  return {
    kind,
    input,
    queue,
    taskClass,
    tags,
    priority,
    startToCloseTimeoutMs,
    retry,
    artifacts,
    ...(spec && { spec }),
  };
}

/** What most tasks do not have. Throws `BatonError` (invalid_argument) for what cannot be. */
function specOf(kind: string, policy: RunTaskOptions): TaskSpec | undefined {
  const { executor, environment, resources, requires, scheduleToStartTimeoutMs, progressTimeoutMs } = policy;
  const rest = { executor, environment, resources, requires, scheduleToStartTimeoutMs, progressTimeoutMs };
  return Object.values(rest).every((value) => value === undefined) ? undefined : taskSpecOf({ kind, ...rest });
}

function definedOf(task: Named): RunTaskOptions {
  const { queue, taskClass, tags, priority, startToCloseTimeoutMs, retry } = task;
  const { environment, resources, requires, scheduleToStartTimeoutMs, progressTimeoutMs } = task;
  const more = { environment, resources, requires, scheduleToStartTimeoutMs, progressTimeoutMs };
  return { queue, taskClass, tags, priority, startToCloseTimeoutMs, retry, ...more };
}
