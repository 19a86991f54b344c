import type { TaskClassName, TaskStateName } from '@baton/client';
import { buildCommand, buildRouteMap, type FlagParametersForType } from '@stricli/core';
import type { CliContext } from '../context.ts';
import { type CommonFlags, commonFlags, durationMs, helpText, idArgument, outputAlias, wholeNumber } from '../flags.ts';
import { dead, failures, resend, stats } from './failure-commands.ts';
import type { ListFlags, LogsFlags, OutputTaskFlags, ReasonFlags, SubmitFlags } from './task-flags.ts';

// Written out and not taken from the client, which is loaded only by commands that call a server. A test compares them.
export const TASK_CLASSES = ['cpu_short', 'cpu_long', 'gpu', 'gpu_slurm'] as const satisfies TaskClassName[];
export const TASK_STATES = [
  'scheduled',
  'blocked',
  'ready',
  'leased',
  'backoff',
  'succeeded',
  'failed',
  'cancelled',
] as const satisfies TaskStateName[];

const id = { brief: 'The id of a task', parse: idArgument, placeholder: 'TASK' };
const oneId = { kind: 'tuple', parameters: [id] } as const;
const text = (brief: string, placeholder: string) =>
  ({ kind: 'parsed', parse: String, optional: true, brief, placeholder }) as const;

/** What is no amount is refused with all that is wrong with the others. */
const amount = (brief: string) => ({ kind: 'parsed', parse: Number, optional: true, brief, placeholder: 'N' }) as const;

const submitFlags: FlagParametersForType<SubmitFlags, CliContext> = {
  ...commonFlags,
  input: {
    kind: 'parsed',
    parse: String,
    variadic: true,
    optional: true,
    brief: 'The input: JSON, or key=value as often as needed',
    placeholder: 'JSON|K=V',
  },
  queue: text('The dispatch line; default "default"', 'NAME'),
  class: { kind: 'enum', values: TASK_CLASSES, optional: true, brief: 'The kind of machine it needs' },
  tag: {
    kind: 'parsed',
    parse: String,
    variadic: true,
    optional: true,
    brief: 'A tag that the worker must have',
    placeholder: 'TAG',
  },
  cpus: amount('CPUs that it has for itself; with any of these, default 1'),
  memoryGib: amount('Memory that it has for itself, GiB; default 4'),
  gpus: amount('GPUs of one worker that it has for itself'),
  gpuMemoryGib: amount('Memory of each of these GPUs, GiB; default 2'),
  gpuModel: text('Words of the model of these GPUs', 'MODEL'),
  os: {
    kind: 'parsed',
    parse: String,
    variadic: true,
    optional: true,
    brief: 'A system that the worker may run; any of these',
    placeholder: 'OS',
  },
  tool: {
    kind: 'parsed',
    parse: String,
    variadic: true,
    optional: true,
    brief: 'A tool that the worker must have: ffmpeg, ffmpeg>=5',
    placeholder: 'TOOL',
  },
  selector: text('CEL over worker and gpu: gpu.memory_gib >= 40', 'CEL'),
  priority: {
    kind: 'parsed',
    parse: wholeNumber(-1_000, 1_000),
    optional: true,
    brief: 'Higher first; default 0',
    placeholder: 'N',
  },
  key: text('Idempotency key: the same one gives the same task', 'KEY'),
  delay: {
    kind: 'parsed',
    parse: durationMs,
    optional: true,
    brief: 'Not before this much time has gone by: 30s, 5m, 2h',
    placeholder: 'TIME',
  },
  timeout: {
    kind: 'parsed',
    parse: durationMs,
    optional: true,
    brief: 'The longest that an attempt may take; default 1h',
    placeholder: 'TIME',
  },
  startTimeout: {
    kind: 'parsed',
    parse: durationMs,
    optional: true,
    brief: 'The longest that it may wait for a worker to start it; then it fails',
    placeholder: 'TIME',
  },
  progressTimeout: {
    kind: 'parsed',
    parse: durationMs,
    optional: true,
    brief: 'The longest that it may give no sign (progress, a line, output, a checkpoint) while it runs',
    placeholder: 'TIME',
  },
  maxAttempts: {
    kind: 'parsed',
    parse: wholeNumber(1, 1_000),
    optional: true,
    brief: 'Attempts in all; default 4',
    placeholder: 'N',
  },
  grpc: text('Carry it out by a call of this gRPC service', 'HOST:PORT'),
  method: text('With --grpc: the method to call', 'SERVICE/METHOD'),
  process: text('Carry it out by this program: its words as a list of JSON, or the program alone', 'WORDS'),
  artifact: {
    kind: 'parsed',
    parse: String,
    variadic: true,
    optional: true,
    brief: 'A file that it is handed: by its SHA-256, or with @ a path, which is uploaded',
    placeholder: 'NAME=SHA256',
  },
  env: {
    kind: 'parsed',
    parse: String,
    variadic: true,
    optional: true,
    brief: 'A variable that it finds; no place for secrets',
    placeholder: 'NAME=VALUE',
  },
  pass: {
    kind: 'parsed',
    parse: String,
    variadic: true,
    optional: true,
    brief: 'A variable of the worker that it is handed, where the worker allows it',
    placeholder: 'NAME',
  },
  directory: text('Where it works, on the worker', 'PATH'),
  wait: { kind: 'boolean', default: false, withNegated: false, brief: 'Stay until the end and print the output' },
};

const submit = buildCommand<SubmitFlags, [string], CliContext>({
  loader: async () => (await import('./submit.ts')).submit,
  parameters: {
    flags: submitFlags,
    aliases: { ...outputAlias, i: 'input', q: 'queue', p: 'priority', k: 'key', w: 'wait' },
    positional: {
      kind: 'tuple',
      parameters: [{ brief: 'What the task is: the id of a registered function', parse: String, placeholder: 'KIND' }],
    },
  },
  docs: {
    brief: 'Submit a task',
    fullDescription: helpText(
      'Submit a task and print its id; with --wait, its output.',
      [
        'baton task submit greet --input name=Ada --wait',
        `baton task submit resize --input '{"width": 640}' --class gpu --priority 10`,
        'baton task submit report --key 2026-11 --delay 5m',
        `baton task submit train --process '["python3", "/srv/train.py"]' --input epochs=3 --pass HF_TOKEN --wait`,
        'baton task submit evaluate --artifact model=@model.bin --wait',
        'baton task submit hello --grpc 127.0.0.1:50051 --method helloworld.Greeter/SayHello --input name=Ada --wait',
      ],
      'With --wait it ends with 1 when the task failed or was cancelled.',
    ),
  },
});

const get = buildCommand<CommonFlags, [string], CliContext>({
  loader: async () => (await import('./get.ts')).get,
  parameters: { flags: commonFlags, aliases: outputAlias, positional: oneId },
  docs: {
    brief: 'Show a task and its attempts',
    fullDescription: helpText('Show a task, its input and output, and its attempts.', [
      'baton task get 42',
      'baton task get 42 -o json',
    ]),
  },
});

const list = buildCommand<ListFlags, [], CliContext>({
  loader: async () => (await import('./list.ts')).list,
  parameters: {
    flags: {
      ...commonFlags,
      state: { kind: 'enum', values: TASK_STATES, variadic: ',', optional: true, brief: 'Only these states' },
      queue: text('Only of this queue', 'NAME'),
      kind: text('Only of this kind', 'KIND'),
      limit: { kind: 'parsed', parse: wholeNumber(1, 100_000), default: '50', brief: 'At most so many' },
    },
    aliases: { ...outputAlias, s: 'state', q: 'queue', k: 'kind', n: 'limit' },
  },
  docs: {
    brief: 'List tasks, newest first',
    fullDescription: helpText('List tasks, newest first.', [
      'baton task list',
      'baton task list --state ready,backoff --queue default',
      'baton task list --kind greet --limit 500 -o json',
    ]),
  },
});

const watch = buildCommand<CommonFlags, [string], CliContext>({
  loader: async () => (await import('./watch.ts')).watch,
  parameters: { flags: commonFlags, aliases: outputAlias, positional: oneId },
  docs: {
    brief: 'Follow a task until its end',
    fullDescription: helpText(
      'Follow a task until its end, a line for each change.',
      ['baton task watch 42', 'baton task watch 42 -o json'],
      'Ends with 0 when the task succeeded and with 1 when it failed or was cancelled. -o json is one object a line.',
    ),
  },
});

const cancel = buildCommand<ReasonFlags, [string], CliContext>({
  loader: async () => (await import('./cancel.ts')).cancel,
  parameters: {
    flags: { ...commonFlags, reason: text('Why, in words', 'TEXT') },
    aliases: outputAlias,
    positional: oneId,
  },
  docs: {
    brief: 'Cancel a task',
    fullDescription: helpText('End a waiting task at once; ask the worker of a leased one to stop.', [
      'baton task cancel 42 --reason "no longer needed"',
    ]),
  },
});

const logs = buildCommand<LogsFlags, [string], CliContext>({
  loader: async () => (await import('./logs.ts')).logs,
  parameters: {
    flags: {
      ...commonFlags,
      follow: { kind: 'boolean', default: false, withNegated: false, brief: 'Stay until the task has ended' },
    },
    aliases: { ...outputAlias, f: 'follow' },
    positional: oneId,
  },
  docs: {
    brief: 'Print what a task wrote',
    fullDescription: helpText('Print what a task wrote, oldest first. -o json is one object a line.', [
      'baton task logs 42',
      'baton task logs 42 --follow',
    ]),
  },
});

const output = buildCommand<OutputTaskFlags, [string], CliContext>({
  loader: async () => (await import('./output.ts')).output,
  parameters: {
    flags: {
      ...commonFlags,
      follow: { kind: 'boolean', default: false, withNegated: false, brief: 'Stay until the task has ended' },
      attempt: {
        kind: 'parsed',
        parse: wholeNumber(1, 1_000_000),
        optional: true,
        brief: 'Of this attempt; default the newest',
        placeholder: 'N',
      },
    },
    aliases: { ...outputAlias, f: 'follow' },
    positional: oneId,
  },
  docs: {
    brief: 'Print what a task streams',
    fullDescription: helpText(
      'Print the bytes that a task streams by ctx.output.write, as they are.',
      ['baton task output 42 > frames.bin', 'baton task output 42 --follow | jq .', 'baton task output 42 -o json'],
      'A terminal gets them as text without control characters. -o json is one object a line, with the bytes in base64.',
    ),
  },
});

const results = buildCommand<CommonFlags, string[], CliContext>({
  loader: async () => (await import('./results.ts')).results,
  parameters: {
    flags: commonFlags,
    aliases: outputAlias,
    positional: { kind: 'array', parameter: id, minimum: 1 },
  },
  docs: {
    brief: 'Wait for tasks, a line for each end',
    fullDescription: helpText(
      'Print the end of each task as it comes, until all have ended.',
      ['baton task results 42 43 44', 'baton task results 42 43 -o json | jq .output'],
      'Ends with 0 when all succeeded, otherwise with 1. -o json is one object a line.',
    ),
  },
});

const history = buildCommand<CommonFlags, [string], CliContext>({
  loader: async () => (await import('./history.ts')).history,
  parameters: { flags: commonFlags, aliases: outputAlias, positional: oneId },
  docs: {
    brief: 'Tell everything that happened to a task',
    fullDescription: helpText('Everything that happened to a task, oldest first.', [
      'baton task history 42',
      'baton task history 42 -o json',
    ]),
  },
});

const why = buildCommand<CommonFlags, [string], CliContext>({
  loader: async () => (await import('./why.ts')).why,
  parameters: { flags: commonFlags, aliases: outputAlias, positional: oneId },
  docs: {
    brief: 'Say why a task does not run',
    fullDescription: helpText(
      'Say what keeps a task from running, the nearest first, and what would lift it.',
      ['baton task why 42', 'baton task why 42 -o json'],
      'Of a task that runs it says where, of one that has ended how.',
    ),
  },
});

export const command = buildRouteMap<
  | 'submit'
  | 'get'
  | 'list'
  | 'watch'
  | 'cancel'
  | 'logs'
  | 'output'
  | 'results'
  | 'history'
  | 'why'
  | 'dead'
  | 'resend'
  | 'failures'
  | 'stats',
  CliContext
>({
  routes: { submit, get, list, watch, cancel, logs, output, results, history, why, dead, resend, failures, stats },
  docs: { brief: 'Submit, follow and cancel tasks' },
});
