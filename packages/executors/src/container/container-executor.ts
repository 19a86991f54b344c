import { randomUUID } from 'node:crypto';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { FailureType, type Lease, PayloadEncoding } from '@baton/contract';
import type { AttemptContext, Executor, FailureReport, Outcome } from '@baton/runtime';
import type Docker from 'dockerode';
import { LineSplitter } from '../log-lines.ts';
import { attach } from './attach.ts';
import { type ContainerOwner, containerConfig } from './container-config.ts';
import { type ContainerRules, refusedWishes, TASK_DIRECTORY } from './container-rules.ts';
import { ImageError, ImagePuller, statusOf } from './pull-image.ts';
import { removeOrphans } from './remove-orphans.ts';

export interface ContainerExecutorOptions {
  /** The socket of Docker's API, on this machine: the daemon mounts directories of the worker. */
  readonly socketPath: string;
  /** Name of the worker: containers that an earlier life of it left are removed before the first task. */
  readonly worker: string;
  readonly rules?: ContainerRules;
  /** Where attempts have their directories. Default: the system's place for temporary files. */
  readonly directory?: string;
  readonly log?: { info(message: string, fields?: object): void; warn(message: string, fields?: object): void };
}

const DEFAULT_GRACE_MS = 5_000;
const DEFAULT_LOG_BYTES = 16 * 1024 * 1024;
const INLINE_BYTES = 2 * 1024 * 1024;
const MAX_STDOUT_BYTES = 2 * 1024 * 1024;
/** Of the standard error, in the message of a failure. */
const TAIL_LINES = 20;
const nothing = new TextEncoder().encode('null');

/** The task cannot be carried out as it stands; a retry would find it just so. */
class ContainerRefused extends Error {
  override readonly name = 'ContainerRefused';
}

/**
 * Carries tasks out in containers, by Docker's API (Docker, or podman's service): one container an attempt, which is gone before the
 * attempt's lease is. The attempt's directory is mounted at `/baton`: `BATON_INPUT_FILE` is there, and `BATON_OUTPUT_FILE` is where the
 * output is expected.
 */
export function containerExecutor(options: ContainerExecutorOptions): Executor {
  const { rules = {}, directory = tmpdir(), log } = options;
  const owner: ContainerOwner = {
    worker: options.worker,
    instance: randomUUID(),
    host: hostname(),
    pid: process.pid,
  };
  let ready: Promise<{ docker: Docker; puller: ImagePuller }> | undefined;
  /** The daemon, once what an earlier life left there is gone. */
  const connect = () => {
    ready ??= begin().catch((error) => {
      // Tried again with the next task: without its daemon there is none that could run.
      ready = undefined;
      throw error;
    });
    return ready;
  };
  const begin = async () => {
    // Not loaded by workers that have no containers: it is large.
    const { default: Client } = await import('dockerode');
    const docker = new Client({ socketPath: options.socketPath });
    await removeOrphans(docker, owner, log);
    return { docker, puller: new ImagePuller(docker) };
  };
  // As soon as there is a worker: what an earlier life of it left holds its devices.
  connect().catch((error) => log?.warn('containers of an earlier life not looked for', { error: String(error) }));

  return {
    type: 'container',
    async start(lease, context) {
      if (lease.executor.case !== 'container') {
        return failure({ type: FailureType.UNKNOWN, message: 'the lease names no container' });
      }
      try {
        return await run(await connect(), lease, context);
      } catch (error) {
        if (context.signal.aborted) return { kind: 'cancelled' };
        return failure(failureOf(error, options.socketPath));
      }
    },
  };

  async function run(
    { docker, puller }: { docker: Docker; puller: ImagePuller },
    lease: Lease,
    context: AttemptContext,
  ): Promise<Outcome> {
    const settings = lease.executor.value as Extract<Lease['executor'], { case: 'container' }>['value'];
    const refused = refusedWishes(settings, rules);
    const secret = settings.registrySecret === '' ? undefined : context.variable(settings.registrySecret);
    if (settings.registrySecret !== '' && secret === undefined) {
      refused.push(`this worker hands on no variable ${settings.registrySecret} (BATON_TASK_ENV)`);
    }
    if (refused.length > 0) throw new ContainerRefused(refused.join('; '));

    await puller.ensure(settings.image, settings.pullPolicy, secret, settings.platform, context);
    context.signal.throwIfAborted();

    const home = await mkdtemp(join(directory, 'baton-container-'));
    try {
      // The user of the container may be any; who may pass the directory above is this machine's matter.
      await chmod(home, 0o777);
      await writeFile(join(home, 'input'), lease.input);
      const devices = settings.withoutDevices ? [] : devicesOf(context);
      const container = await docker.createContainer(
        containerConfig({
          settings,
          lease,
          directory: home,
          devices,
          owner,
          ulimits: ulimitsOf(rules),
          workingDirectory: context.workingDirectory ?? '',
          environment: {
            ...context.env,
            BATON_TASK_ID: lease.taskId,
            BATON_ATTEMPT: String(lease.attempt),
            BATON_EPOCH: String(lease.epoch),
            BATON_KIND: lease.kind,
            ...(lease.runId !== '' && { BATON_RUN_ID: lease.runId, BATON_NODE_ID: lease.nodeId }),
            BATON_TASK_DIR: TASK_DIRECTORY,
            BATON_INPUT_FILE: `${TASK_DIRECTORY}/input`,
            BATON_OUTPUT_FILE: `${TASK_DIRECTORY}/output`,
          },
        }),
      );
      try {
        const ended = await follow(docker, container, lease, context);
        if (context.signal.aborted) return { kind: 'cancelled' };
        return await outcomeOf(ended, home, settings, context);
      } finally {
        await removed(container);
      }
    } finally {
      await rm(home, { recursive: true, force: true }).catch((error) =>
        log?.warn('directory of a container not removed', { directory: home, error: String(error) }),
      );
    }
  }

  /** Starts it, keeps what it prints, and waits for its end; a stop of the attempt stops it. */
  async function follow(
    docker: Docker,
    container: Docker.Container,
    lease: Lease,
    context: AttemptContext,
  ): Promise<Ended> {
    const settings = lease.executor.value as Extract<Lease['executor'], { case: 'container' }>['value'];
    const budget = { bytes: Number(settings.maxLogBytes) || DEFAULT_LOG_BYTES };
    const tail: string[] = [];
    const out: Buffer[] = [];
    let outBytes = 0;
    let lastLine = '';
    const keepsAll = settings.output === 'stdout';
    const stdout = new LineSplitter((line) => context.log(line, 'stdout'), budget);
    const stderr = new LineSplitter((line) => {
      tail.push(line);
      if (tail.length > TAIL_LINES) tail.shift();
      context.log(line, 'stderr');
    }, budget);
    const results = new LineSplitter(
      (line) => {
        if (line.trim() !== '') lastLine = line;
      },
      { bytes: Number.POSITIVE_INFINITY },
    );

    const stream = await attach(options.socketPath, container.id, settings);
    const read = new Promise<void>((resolve) => {
      stream.on('end', resolve);
      stream.on('close', resolve);
      stream.on('error', () => resolve());
    });
    docker.modem.demuxStream(
      stream,
      {
        write(chunk: Buffer) {
          stdout.write(chunk);
          if (settings.output === 'stdout_json') results.write(chunk);
          if (keepsAll && outBytes <= MAX_STDOUT_BYTES) {
            outBytes += chunk.byteLength;
            out.push(Buffer.from(chunk));
          }
          return true;
        },
      } as unknown as NodeJS.WritableStream,
      stderr,
    );
    // Asked for before it starts, so that an end that comes at once is not missed.
    const end = container.wait({ condition: 'next-exit' } as object) as Promise<{ StatusCode: number }>;
    end.catch(() => {});
    context.signal.throwIfAborted();
    await container.start();
    if (settings.stdin) {
      stream.on('error', () => {});
      stream.end(Buffer.from(lease.input));
    }

    const graceSeconds = Math.ceil((settings.stopGraceMs || DEFAULT_GRACE_MS) / 1000);
    const stop = () => {
      // SIGTERM, and SIGKILL after the grace; to its first process, with which all others go.
      container.stop({ t: graceSeconds }).catch(() => container.kill().catch(() => {}));
    };
    context.signal.addEventListener('abort', stop, { once: true });
    if (context.signal.aborted) stop();
    try {
      const { StatusCode } = await end;
      // Everything that it printed is there when the stream is over; a daemon that forgets to end it is not waited for long.
      await Promise.race([read, new Promise((resolve) => setTimeout(resolve, 2_000).unref())]);
      for (const each of [stdout, stderr, results]) each.end();
      const dropped = stdout.droppedBytes + stderr.droppedBytes;
      if (dropped > 0) context.log(`${dropped} more bytes were printed and are not kept`, 'stderr');
      const { State } = await container.inspect();
      return {
        exitCode: StatusCode,
        // Older podmans do not say what they were told by the kernel.
        wasKilledForMemory: State.OOMKilled === true || (StatusCode === 137 && settings.memoryBytes > 0n),
        stderrTail: tail.join('\n'),
        stdout: Buffer.concat(out),
        lastLine,
      };
    } finally {
      context.signal.removeEventListener('abort', stop);
    }
  }

  /** Gone, whatever state it is in; an attempt is not over before. */
  async function removed(container: Docker.Container): Promise<void> {
    for (let tries = 0; ; tries++) {
      try {
        await container.remove({ force: true, v: true });
        return;
      } catch (error) {
        if (statusOf(error) === 404) return;
        if (tries >= 4) {
          log?.warn('container not removed', { container: container.id, error: String(error) });
          return;
        }
        await new Promise((resolve) => setTimeout(resolve, 200 * 2 ** tries));
      }
    }
  }
}

function ulimitsOf({ ulimits = [] }: ContainerRules): { Name: string; Soft: number; Hard: number }[] {
  return ulimits.map((text) => {
    const [, Name = '', soft, hard] = /^([a-z]+)=(-?\d+)(?::(-?\d+))?$/.exec(text) ?? [];
    return { Name, Soft: Number(soft), Hard: Number(hard ?? soft) };
  });
}

/** UUIDs of the devices that the task leased. */
function devicesOf(context: AttemptContext): readonly string[] {
  return (context as { devices?: readonly string[] }).devices ?? [];
}

interface Ended {
  readonly exitCode: number;
  readonly wasKilledForMemory: boolean;
  readonly stderrTail: string;
  readonly stdout: Buffer;
  readonly lastLine: string;
}

async function outcomeOf(
  ended: Ended,
  home: string,
  settings: { output: string; outputBytes: boolean; permanentExitCodes: readonly number[]; memoryBytes: bigint },
  context: AttemptContext,
): Promise<Outcome> {
  const { exitCode, stderrTail } = ended;
  const said = stderrTail === '' ? '' : `: ${stderrTail}`;
  if (ended.wasKilledForMemory) {
    const limit = settings.memoryBytes > 0n ? ` (its limit is ${settings.memoryBytes} bytes)` : '';
    return failure({
      type: FailureType.OUT_OF_MEMORY,
      message: `the container needed more memory than it may have${limit}${said}`,
    });
  }
  if (exitCode !== 0) {
    const signal = exitCode > 128 && exitCode < 192 ? `, by signal ${exitCode - 128}` : '';
    return failure({
      type: FailureType.EVALUATION_ERROR,
      message: `the container ended with exit code ${exitCode}${signal}${said}`,
      exceptionType: `exit ${exitCode}`,
      nonRetryable: settings.permanentExitCodes.includes(exitCode),
    });
  }
  if (settings.output === 'stdout') {
    if (ended.stdout.byteLength > MAX_STDOUT_BYTES) {
      const message = `the standard output is larger than ${MAX_STDOUT_BYTES} bytes; write a file instead: BATON_OUTPUT_FILE`;
      return failure({ type: FailureType.EVALUATION_ERROR, message, nonRetryable: true });
    }
    return success(Buffer.from(JSON.stringify(ended.stdout.toString('utf8'))), PayloadEncoding.JSON, context);
  }
  if (settings.output === 'stdout_json') {
    return asJson(Buffer.from(ended.lastLine), 'the last line of the standard output', context);
  }
  const path = join(home, 'output');
  const size = await stat(path).then(
    (found) => found.size,
    () => undefined,
  );
  if (size === undefined) {
    if (settings.output !== 'file') return { kind: 'success', output: nothing, encoding: PayloadEncoding.JSON };
    return failure({ type: FailureType.EVALUATION_ERROR, message: `it wrote no output (BATON_OUTPUT_FILE)${said}` });
  }
  const bytes = await readFile(path);
  if (settings.outputBytes) return success(bytes, PayloadEncoding.BYTES, context);
  return asJson(bytes, 'the output', context);
}

async function asJson(bytes: Buffer, what: string, context: AttemptContext): Promise<Outcome> {
  try {
    JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return failure({ type: FailureType.EVALUATION_ERROR, message: `${what} is not JSON: ${why}` });
  }
  return success(bytes, PayloadEncoding.JSON, context);
}

async function success(output: Uint8Array, encoding: PayloadEncoding, context: AttemptContext): Promise<Outcome> {
  if (output.byteLength <= INLINE_BYTES) return { kind: 'success', output, encoding };
  const { sha256, sizeBytes } = await context.blob(output, {
    encoding: encoding === PayloadEncoding.JSON ? 'json' : 'bytes',
  });
  return { kind: 'success', output: new Uint8Array(), encoding, blob: { sha256, sizeBytes } };
}

function failureOf(error: unknown, socketPath: string): FailureReport {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof ContainerRefused) {
    return { type: FailureType.EVALUATION_ERROR, message, exceptionType: error.name, nonRetryable: true };
  }
  if (error instanceof ImageError) {
    const type = error.permanent ? FailureType.EVALUATION_ERROR : FailureType.NETWORK_ERROR;
    return { type, message, exceptionType: error.name, nonRetryable: error.permanent };
  }
  const status = statusOf(error);
  // The daemon understood and will not: a command that the image has not, a user that is none.
  if (status !== undefined && status >= 400 && status < 500) {
    return { type: FailureType.EVALUATION_ERROR, message, exceptionType: `Docker ${status}`, nonRetryable: true };
  }
  if (status !== undefined && /executable file|no such file|not found|permission denied/i.test(message)) {
    return { type: FailureType.EVALUATION_ERROR, message, exceptionType: `Docker ${status}`, nonRetryable: true };
  }
  if (status !== undefined) {
    return { type: FailureType.WORKER_CRASH, message, exceptionType: `Docker ${status}` };
  }
  return {
    type: FailureType.WORKER_CRASH,
    message: `Docker's API at ${socketPath} does not answer: ${message}`,
    ...(error instanceof Error && 'code' in error && { exceptionType: String(error.code) }),
  };
}

function failure(report: FailureReport): Outcome {
  return { kind: 'failure', failure: report };
}
