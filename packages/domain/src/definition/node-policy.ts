import type { Requirements } from '../requirements.ts';
import type { ResourceRequest } from '../resources.ts';
import { DEFAULT_RETRY, type RetryPolicy } from '../retry.ts';
import type { TaskEnvironment } from '../task-environment.ts';
import { TASK_CLASSES, type TaskClass } from '../task-state.ts';
import type { Expressions } from './expressions.ts';
import { Fields, secondsToMs } from './fields.ts';
import { compareCodeUnits } from './json.ts';
import {
  DEFAULT_NODE_QUEUE,
  DEFAULT_NODE_TASK_CLASS,
  DEFAULT_NODE_TIMEOUT_MS,
  MAX_NODE_TAGS,
  MAX_TIMEOUT_SECONDS,
  type NodeDefinition,
} from './model.ts';
import { readEnvironment } from './node-environment.ts';
import { readRequirements, readResources } from './node-resources.ts';
import { type Problems, quote } from './problem.ts';

/** How a node is queued, retried and bounded: what `defaults` may set for all nodes and a node for itself. */
export interface Policy {
  readonly queue?: string | undefined;
  readonly taskClass?: TaskClass | undefined;
  readonly tags?: readonly string[] | undefined;
  readonly retry?: RetryFields | undefined;
  readonly timeoutMs?: number | undefined;
  readonly priority?: number | undefined;
  readonly scheduleToStartMs?: number | undefined;
  readonly progressTimeoutMs?: number | undefined;
  readonly environment?: TaskEnvironment | undefined;
  readonly resources?: ResourceRequest | undefined;
  readonly requires?: Requirements | undefined;
}

type RetryFields = { readonly [Field in keyof RetryPolicy]?: RetryPolicy[Field] | undefined };

/** The fields of a policy, in a node and in `defaults`. */
export const POLICY_FIELDS = [
  'queue',
  'task_class',
  'tags',
  'retry',
  'timeout_seconds',
  'schedule_to_start_seconds',
  'progress_timeout_seconds',
  'priority',
  'environment',
  'resources',
  'requires',
] as const;
const RETRY_FIELDS = ['max_attempts', 'initial_delay_seconds', 'factor', 'max_delay_seconds', 'jitter'] as const;

const MAX_ATTEMPTS = 1_000;
const MAX_FACTOR = 100;
const MAX_PRIORITY = 1_000;

/** Reads the policy fields of a node or of `defaults`. */
export function readPolicy(problems: Problems, fields: Fields, expressions: Expressions): Policy {
  const seconds = (field: string): number | undefined => {
    const value = fields.number(field, { above: 0, max: MAX_TIMEOUT_SECONDS });
    return value === undefined ? undefined : secondsToMs(value);
  };
  const timeoutMs = seconds('timeout_seconds');
  return {
    queue: fields.name('queue'),
    taskClass: readTaskClass(problems, fields),
    tags: readTags(problems, fields),
    retry: readRetry(problems, fields),
    timeoutMs,
    priority: fields.number('priority', { min: -MAX_PRIORITY, max: MAX_PRIORITY, integer: true }),
    scheduleToStartMs: seconds('schedule_to_start_seconds'),
    progressTimeoutMs: seconds('progress_timeout_seconds'),
    environment: readEnvironment(problems, fields),
    resources: readResources(problems, fields),
    requires: readRequirements(problems, fields, expressions),
  };
}

/** A node's policy over the file's over Baton's; a retry policy is completed field by field. */
export function completePolicy(
  policy: Policy,
  defaults: Policy,
): Pick<
  NodeDefinition,
  | 'queue'
  | 'taskClass'
  | 'tags'
  | 'retry'
  | 'timeoutMs'
  | 'priority'
  | 'scheduleToStartMs'
  | 'progressTimeoutMs'
  | 'environment'
  | 'resources'
  | 'requires'
> {
  const retryField = <Field extends keyof RetryPolicy>(field: Field): RetryPolicy[Field] =>
    policy.retry?.[field] ?? defaults.retry?.[field] ?? DEFAULT_RETRY[field];
  const hasMaximum = (policy.retry?.maxDelayMs ?? defaults.retry?.maxDelayMs) !== undefined;
  const initialDelayMs = retryField('initialDelayMs');
  const scheduleToStartMs = policy.scheduleToStartMs ?? defaults.scheduleToStartMs;
  const progressTimeoutMs = policy.progressTimeoutMs ?? defaults.progressTimeoutMs;
  const environment = mergeEnvironments(policy.environment, defaults.environment);
  return {
    queue: policy.queue ?? defaults.queue ?? DEFAULT_NODE_QUEUE,
    taskClass: policy.taskClass ?? defaults.taskClass ?? DEFAULT_NODE_TASK_CLASS,
    tags: policy.tags ?? defaults.tags ?? [],
    retry: {
      maxAttempts: retryField('maxAttempts'),
      initialDelayMs,
      factor: retryField('factor'),
      // A first delay beyond Baton's own maximum was asked for; only a maximum that was asked for too may cut it.
      maxDelayMs: Math.max(retryField('maxDelayMs'), hasMaximum ? 0 : initialDelayMs),
      jitter: retryField('jitter'),
    },
    timeoutMs: policy.timeoutMs ?? defaults.timeoutMs ?? DEFAULT_NODE_TIMEOUT_MS,
    priority: policy.priority ?? defaults.priority ?? 0,
    ...(scheduleToStartMs !== undefined && { scheduleToStartMs }),
    ...(progressTimeoutMs !== undefined && { progressTimeoutMs }),
    ...(environment && { environment }),
    // Field by field: a file's defaults may say the class of machine, and a node how much of it.
    ...((policy.resources || defaults.resources) && { resources: { ...defaults.resources, ...policy.resources } }),
    ...((policy.requires || defaults.requires) && { requires: { ...defaults.requires, ...policy.requires } }),
  };
}

/** Field by field; of two variables of one name the node's. */
function mergeEnvironments(own: TaskEnvironment | undefined, common: TaskEnvironment | undefined) {
  if (!own || !common) return own ?? common;
  const pass = [...new Set([...(common.pass ?? []), ...(own.pass ?? [])])];
  const set = { ...common.set, ...own.set };
  const workingDirectory = own.workingDirectory ?? common.workingDirectory;
  return {
    ...(pass.length > 0 && { pass }),
    ...(Object.keys(set).length > 0 && { set }),
    ...(workingDirectory !== undefined && { workingDirectory }),
  };
}

function readTaskClass(problems: Problems, fields: Fields): TaskClass | undefined {
  const text = fields.text('task_class');
  const taskClass = TASK_CLASSES.find((known) => known === text);
  if (text !== undefined && taskClass === undefined) {
    const hint = problems.didYouMean(text, TASK_CLASSES) ?? `known: ${TASK_CLASSES.join(', ')}`;
    problems.add(fields.at('task_class'), 'UNKNOWN_TASK_CLASS', `the task class ${quote(text)} is not known`, hint);
  }
  return taskClass;
}

function readTags(problems: Problems, fields: Fields): string[] | undefined {
  const tags = fields.names('tags');
  const seen = new Set<string>();
  for (const { name, place } of tags ?? []) {
    // Workers compare tags without regard to case, so "GPU" and "gpu" are the same tag twice.
    const folded = name.toLowerCase();
    if (seen.has(folded)) problems.add(place, 'DUPLICATE_TAG', `the tag ${quote(name)} is listed twice`, 'remove one');
    seen.add(folded);
  }
  if (seen.size > MAX_NODE_TAGS) {
    problems.add(fields.at('tags'), 'OUT_OF_RANGE', `there are ${seen.size} tags, ${MAX_NODE_TAGS} is the most`);
  }
  return tags?.map((tag) => tag.name).sort(compareCodeUnits);
}

function readRetry(problems: Problems, fields: Fields): RetryFields | undefined {
  const record = fields.record('retry');
  if (!record) return undefined;
  const retry = new Fields(problems, fields.at('retry'), record);
  const delay = { min: 0, max: MAX_TIMEOUT_SECONDS };
  const maxAttempts = retry.number('max_attempts', { min: 1, max: MAX_ATTEMPTS, integer: true });
  const initialSeconds = retry.number('initial_delay_seconds', delay);
  const factor = retry.number('factor', { min: 1, max: MAX_FACTOR });
  const maxSeconds = retry.number('max_delay_seconds', delay);
  const jitter = retry.number('jitter', { min: 0, max: 1 });
  retry.refuseUnknown(RETRY_FIELDS);
  if (initialSeconds !== undefined && maxSeconds !== undefined && maxSeconds < initialSeconds) {
    const message = `"max_delay_seconds" is ${maxSeconds}, less than "initial_delay_seconds", ${initialSeconds}`;
    problems.add(retry.at('max_delay_seconds'), 'OUT_OF_RANGE', message);
  }
  const toMs = (seconds: number | undefined): number | undefined =>
    seconds === undefined ? undefined : Math.round(seconds * 1000);
  return { maxAttempts, initialDelayMs: toMs(initialSeconds), factor, maxDelayMs: toMs(maxSeconds), jitter };
}
