import { type ArtifactSource, type Baton, JsonText, type TaskSubmission } from '@baton/client';
import { openFile } from '../artifact/open-file.ts';
import type { CliContext } from '../context.ts';
import { usageError } from '../exit.ts';
import { inputOf } from '../input.ts';
import type { SubmitFlags } from './task-flags.ts';

/** `baton task submit KIND`. */
export async function submit(this: CliContext, flags: SubmitFlags, kind: string): Promise<void> {
  const submission = submissionOf(flags, kind);
  const named = artifactsOf(flags);
  const baton = await this.connect(flags);
  const artifacts = await uploaded(baton, named, this.signal);
  const handle = await baton.submit({ ...submission, artifacts, signal: this.signal });
  this.record({ task_id: handle.id, kind, deduplicated: handle.deduplicated });
  if (flags.wait) {
    const output = await handle.result({ signal: this.signal });
    if (flags.output === 'json') this.screen.json(await handle.status({ signal: this.signal }));
    else if (typeof output === 'string') this.screen.text(output);
    else if (output !== undefined) this.screen.json(output);
  } else if (flags.output === 'json') {
    this.screen.json({ id: handle.id, deduplicated: handle.deduplicated });
  } else {
    this.screen.line(handle.id);
    const what = handle.deduplicated ? 'was submitted before with this key' : 'is submitted';
    this.screen.note({ text: `task ${handle.id} ${what}; follow it: baton task watch ${handle.id}`, style: 'dim' });
  }
}

/** By name, a SHA-256 or `@` and a path. */
function artifactsOf({ artifact = [] }: SubmitFlags): readonly (readonly [name: string, source: string])[] {
  return artifact.map((each) => {
    const at = each.lastIndexOf('=');
    const source = each.slice(at + 1);
    if (at < 1 || !/^([0-9a-f]{64}|@.+)$/.test(source))
      throw usageError(
        `--artifact ${each} names no file`,
        'such as: --artifact model=@model.bin, or =SHA256 of one that is kept',
      );
    return [each.slice(0, at), source];
  });
}

async function uploaded(
  baton: Baton,
  named: ReturnType<typeof artifactsOf>,
  signal: AbortSignal | undefined,
): Promise<TaskSubmission['artifacts']> {
  if (named.length === 0) return undefined;
  const files = await Promise.all(
    named.map(
      async ([name, source]) => [name, source.startsWith('@') ? await openFile(source.slice(1)) : source] as const,
    ),
  );
  const artifacts: Record<string, ArtifactSource> = {};
  for (const [name, file] of files)
    artifacts[name] = typeof file === 'string' ? { sha256: file } : await baton.artifacts.put(name, file, { signal });
  return artifacts;
}

function submissionOf(flags: SubmitFlags, kind: string): TaskSubmission {
  const { grpc, method, process: words } = flags;
  if ((grpc === undefined) !== (method === undefined)) {
    throw usageError(
      '--grpc and --method go together',
      'such as: --grpc 127.0.0.1:50051 --method helloworld.Greeter/SayHello',
    );
  }
  if (grpc !== undefined && words !== undefined) {
    throw usageError('--grpc and --process exclude each other', 'leave one of them out');
  }
  const input = inputOf(flags.input);
  return {
    kind,
    input: input && new JsonText(input.json),
    queue: flags.queue,
    taskClass: flags.class,
    tags: flags.tag,
    resources: resourcesOf(flags),
    requires: requirementsOf(flags),
    priority: flags.priority,
    idempotencyKey: flags.key,
    delayMs: flags.delay,
    startToCloseTimeoutMs: flags.timeout,
    scheduleToStartTimeoutMs: flags.startTimeout,
    progressTimeoutMs: flags.progressTimeout,
    retry: flags.maxAttempts === undefined ? undefined : { maxAttempts: flags.maxAttempts },
    executor: executorOf(grpc, method, words),
    environment: environmentOf(flags),
  };
}

function executorOf(
  address: string | undefined,
  method: string | undefined,
  words: string | undefined,
): TaskSubmission['executor'] {
  if (address !== undefined && method !== undefined) return { type: 'grpc', address, method };
  return words === undefined ? undefined : { type: 'process', command: commandOf(words) };
}

function commandOf(words: string): readonly string[] {
  if (!words.trimStart().startsWith('[')) return [words];
  let list: unknown;
  try {
    list = JSON.parse(words);
  } catch {
    list = undefined;
  }
  if (Array.isArray(list) && list.length > 0 && list.every((word) => typeof word === 'string')) return list;
  throw usageError('--process is no list of words', `such as: --process '["python3", "/srv/train.py"]'`);
}

function environmentOf({ env = [], pass, directory }: SubmitFlags): TaskSubmission['environment'] {
  if (env.length === 0 && pass === undefined && directory === undefined) return undefined;
  const set = Object.fromEntries(
    env.map((each) => {
      const at = each.indexOf('=');
      if (at < 1) throw usageError(`--env ${each} has no name and value`, 'such as: --env OMP_NUM_THREADS=4');
      return [each.slice(0, at), each.slice(at + 1)];
    }),
  );
  return { set, ...(pass && { pass }), ...(directory !== undefined && { workingDirectory: directory }) };
}

function resourcesOf(flags: SubmitFlags): TaskSubmission['resources'] {
  const { cpus, memoryGib, gpus, gpuMemoryGib, gpuModel } = flags;
  const asks = [cpus, memoryGib, gpus, gpuMemoryGib, gpuModel].some((each) => each !== undefined);
  return asks ? { cpus, memoryGib, gpus, gpuMemoryGib, gpuModel } : undefined;
}

function requirementsOf({ os, tool, selector }: SubmitFlags): TaskSubmission['requires'] {
  return os || tool || selector !== undefined ? { os, tools: tool, selector } : undefined;
}
