import { randomUUID } from 'node:crypto';
import { chmod, readdir } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { type ContainerTaskExecutor, FailureType, type Lease } from '@baton/contract';
import type { AttemptContext, Executor, FailureReport, Outcome } from '@baton/runtime';
import type Docker from 'dockerode';
import { removeLeftovers } from '../process/leftovers.ts';
import { directoryPrefix, ownOwner } from '../process/tag.ts';
import { failureOfExit } from '../program/exit-failure.ts';
import { LogBudget, ProgramOutput } from '../program/program-output.ts';
import { ProtocolSession } from '../program/protocol-session.ts';
import { failureOfHanded, handedArtifacts } from '../program/task-artifacts.ts';
import { TaskFiles } from '../program/task-files.ts';
import { TASK_PROTOCOL } from '../program/task-messages.ts';
import { captureLimitOf, ownVariables, takeOutput } from '../program/task-output.ts';
import { attach } from './attach.ts';
import { type ContainerOwner, containerConfig } from './container-config.ts';
import { type ContainerRules, refusedWishes, TASK_DIRECTORY } from './container-rules.ts';
import { demux } from './demux.ts';
import { ImageError, ImagePuller, statusOf } from './pull-image.ts';
import { removeOrphans } from './remove-orphans.ts';
import { TaskSocket } from './task-socket.ts';

export interface ContainerExecutorOptions {
  /** The socket of Docker's API, on this machine: the daemon mounts directories of the worker. */
  readonly socketPath: string;
  /** Name of the worker: containers that an earlier life of it left are removed before it takes work. */
  readonly worker: string;
  readonly rules?: ContainerRules;
  /** Where attempts have their directories. Default: the system's place for temporary files. */
  readonly directory?: string;
  /** The most of a task's `stop_grace_ms`. Default 60 000. */
  readonly maxStopGraceMs?: number;
  readonly log?: { info(message: string, fields?: object): void; warn(message: string, fields?: object): void };
}

const defaultGraceMs = 5_000;
/** What the end of a container, and its removal, may take beyond the grace. */
const removalMs = 15_000;
/** How long a program may live that has said how it ends. */
const farewellMs = 5_000;
const defaultLogBytes = 16 * 1024 * 1024;
/** A daemon that does not end a stream is not waited for longer. */
const readMs = 2_000;

/** The task cannot be carried out as it stands; a retry would find it just so. */
class ContainerRefused extends Error {
  override readonly name = 'ContainerRefused';
}

/**
 * Carries tasks out in containers, by Docker's API (Docker, or podman's service): one container an attempt, which is gone before the
 * attempt's lease is. The attempt's directory is mounted at `/baton`; the task's own protocol is spoken over a socket in it.
 */
export function containerExecutor(options: ContainerExecutorOptions): Executor {
  const { rules = {}, directory = join(tmpdir(), 'baton-containers'), maxStopGraceMs = 60_000, log } = options;
  const owner: ContainerOwner = {
    worker: options.worker,
    instance: randomUUID(),
    host: hostname(),
    pid: process.pid,
  };
  const prefix = directoryPrefix(ownOwner());
  let daemon: Promise<Daemon> | undefined;
  /** The daemon, once what an earlier life left there is gone. */
  const connect = () => {
    daemon ??= begin().catch((error) => {
      // Tried again with the next task: without its daemon there is none that could run.
      daemon = undefined;
      throw error;
    });
    return daemon;
  };
  const begin = async () => {
    // Not loaded by workers that have no containers: it is large.
    const { default: Client } = await import('dockerode');
    const docker = new Client({ socketPath: options.socketPath });
    await removeOrphans(docker, owner, log);
    void removeLeftovers(directory);
    return { docker, puller: new ImagePuller(docker) };
  };
  // As soon as there is a worker: what an earlier life of it left may hold its devices.
  const ready = connect().then(
    () => {},
    (error) => log?.warn('containers of an earlier life not looked for', { error: String(error) }),
  );
  const graceOf = (lease: Lease) => Math.min(settingsOf(lease)?.stopGraceMs || defaultGraceMs, maxStopGraceMs);

  return {
    type: 'container',
    ready: () => ready,
    stopGraceMs: (lease) => graceOf(lease) + removalMs,
    async start(lease, context) {
      const settings = settingsOf(lease);
      if (settings === undefined) {
        return failed({ type: FailureType.UNKNOWN, message: 'the lease names no container' });
      }
      let files: TaskFiles | undefined;
      try {
        const { docker, puller } = await connect();
        const secret = checkWishes(settings, context);
        await puller.ensure(settings.image, settings.pullPolicy, secret, settings.platform, context);
        context.signal.throwIfAborted();
        const artifacts = await handed(lease, context);
        files = await TaskFiles.make(directory, prefix, lease.input, { seenAs: TASK_DIRECTORY });
        await openToAnyUser(files, artifacts);
        return await run(docker, lease, settings, context, files, artifacts);
      } catch (error) {
        return context.signal.aborted ? { kind: 'cancelled' } : failed(failureOf(error, options.socketPath));
      } finally {
        await files?.remove();
      }
    },
  };

  /** Gives the registry's secret. Throws `ContainerRefused` with all that it may not have. */
  function checkWishes(settings: ContainerTaskExecutor, context: AttemptContext): string | undefined {
    const refused = refusedWishes(settings, rules);
    const secret = settings.registrySecret === '' ? undefined : context.variable(settings.registrySecret);
    if (settings.registrySecret !== '' && secret === undefined) {
      refused.push(`this worker hands on no variable ${settings.registrySecret} (BATON_TASK_ENV)`);
    }
    if (refused.length > 0) throw new ContainerRefused(refused.join('; '));
    return secret;
  }

  async function run(
    docker: Docker,
    lease: Lease,
    settings: ContainerTaskExecutor,
    context: AttemptContext,
    files: TaskFiles,
    artifacts: string | undefined,
  ): Promise<Outcome> {
    const devices = settings.withoutDevices ? [] : context.devices;
    const socket = new TaskSocket(join(files.directory, 'socket'));
    await socket.listen();
    const session = new ProtocolSession(lease, context, files, socket.channel);
    socket.session = session;
    session.start(devices);
    const container = await docker.createContainer(
      containerConfig({
        settings,
        lease,
        directory: files.directory,
        artifacts,
        devices,
        owner,
        ulimits: ulimitsOf(rules),
        workingDirectory: context.workingDirectory ?? '',
        environment: {
          ...ownVariables(lease, context, files),
          BATON_TASK_PROTOCOL: String(TASK_PROTOCOL),
          BATON_TASK_SOCKET: files.seen('socket'),
          ...context.env,
        },
      }),
    );
    try {
      const ended = await follow(container, lease, settings, context, session);
      await session.settled();
      if (session.failure !== undefined) {
        return context.signal.aborted ? { kind: 'cancelled' } : failed(session.failure);
      }
      if ((ended.exitCode !== 0 || ended.isOutOfMemory) && session.result === undefined) {
        if (context.signal.aborted) return { kind: 'cancelled' };
        return failed(failureOfContainer(ended, settings));
      }
      return await takeOutput(settings, context, files, ended.stdout, session);
    } finally {
      socket.close();
      await removed(container);
    }
  }

  /** Starts it, keeps what it prints, and waits for its end; a stop of the attempt stops it. */
  async function follow(
    container: Docker.Container,
    lease: Lease,
    settings: ContainerTaskExecutor,
    context: AttemptContext,
    session: ProtocolSession,
  ): Promise<Ended> {
    const budget = new LogBudget(Number(settings.maxLogBytes) || defaultLogBytes);
    const [out, err] = [new PassThrough(), new PassThrough()];
    const stdout = new ProgramOutput(out, 'stdout');
    const stderr = new ProgramOutput(err, 'stderr');
    stdout.attach(context, budget, captureLimitOf(settings.output));
    stderr.attach(context, budget, 0);

    const stream = await attach(options.socketPath, container.id, settings);
    stream.on('error', () => {});
    void demux(stream, out, err);
    // Asked for before it starts, so that an end that comes at once is not missed.
    const end = container.wait({ condition: 'next-exit' } as object) as Promise<{ StatusCode: number }>;
    end.catch(() => {});
    context.signal.throwIfAborted();
    await container.start();
    if (settings.stdin) stream.end(Buffer.from(lease.input));

    const graceMs = graceOf(lease);
    const onAbort = () => {
      const { kind = 'cancel', message = '' } = context.signal.reason as { kind?: StopKind; message?: string };
      // Somebody else has the task.
      if (kind === 'lost') return void container.kill().catch(() => {});
      session.stop(kind, message, graceMs);
      // SIGTERM, and SIGKILL after the grace; to its first process, with which all others go.
      container.stop({ t: Math.ceil(graceMs / 1000) }).catch(() => container.kill().catch(() => {}));
    };
    context.signal.addEventListener('abort', onAbort, { once: true });
    if (context.signal.aborted) onAbort();
    let farewell: NodeJS.Timeout | undefined;
    // A program that would stay for the next task has none in a container.
    void session.answered.then(() => {
      farewell = setTimeout(() => container.kill().catch(() => {}), farewellMs);
    });
    try {
      const { StatusCode } = await end;
      const late = setTimeout(() => stream.destroy(), readMs);
      await Promise.all([stdout.ended, stderr.ended]);
      clearTimeout(late);
      if (budget.droppedLines > 0) {
        const { droppedLines, droppedBytes } = budget;
        context.log(`… ${droppedLines} more lines (${droppedBytes} bytes) were printed and are not kept`, 'log');
      }
      const { State } = await container.inspect();
      return { exitCode: StatusCode, isOutOfMemory: State.OOMKilled === true, stdout, errors: stderr.tail };
    } finally {
      clearTimeout(farewell);
      context.signal.removeEventListener('abort', onAbort);
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

type StopKind = 'cancel' | 'timeout' | 'hand-back' | 'lost';

interface Daemon {
  readonly docker: Docker;
  readonly puller: ImagePuller;
}

interface Ended {
  readonly exitCode: number;
  readonly isOutOfMemory: boolean;
  readonly stdout: ProgramOutput;
  /** The end of its standard error. */
  readonly errors: string;
}

function settingsOf({ executor }: Lease): ContainerTaskExecutor | undefined {
  return executor.case === 'container' ? executor.value : undefined;
}

/** The container's user may be any. Who may pass the directory above is this machine's matter. */
async function openToAnyUser(files: TaskFiles, artifacts: string | undefined): Promise<void> {
  await chmod(files.directory, 0o777);
  await chmod(join(files.directory, 'input'), 0o644);
  for (const name of ['work', 'tmp', 'out']) await chmod(join(files.directory, name), 0o777);
  await chmod(join(files.directory, 'in'), 0o755);
  if (artifacts === undefined) return;
  await chmod(artifacts, 0o755);
  for (const entry of await readdir(artifacts, { recursive: true, withFileTypes: true }))
    if (entry.isDirectory()) await chmod(join(entry.parentPath, entry.name), 0o755);
}

/** What the container is handed could not be fetched. */
class NotHanded extends Error {
  override readonly name = 'NotHanded';
}

async function handed(lease: Lease, context: AttemptContext): Promise<string | undefined> {
  try {
    return await handedArtifacts(lease, context);
  } catch (cause) {
    throw new NotHanded('the artifacts are not there', { cause });
  }
}

function ulimitsOf({ ulimits = [] }: ContainerRules): { Name: string; Soft: number; Hard: number }[] {
  return ulimits.map((text) => {
    const [, Name = '', soft, hard] = /^([a-z]+)=(-?\d+)(?::(-?\d+))?$/.exec(text) ?? [];
    return { Name, Soft: Number(soft), Hard: Number(hard ?? soft) };
  });
}

function failureOfContainer(ended: Ended, settings: ContainerTaskExecutor): FailureReport {
  const limit = settings.memoryBytes > 0n ? `; its limit is ${settings.memoryBytes} bytes` : '';
  const report = failureOfExit({
    code: ended.exitCode,
    signal: null,
    errors: ended.errors,
    oomKill: ended.isOutOfMemory ? 'own' : undefined,
    memoryBytes: Number(settings.memoryBytes),
    cpuTimeMs: 0,
    peakBytes: 0,
    permanentExitCodes: settings.permanentExitCodes,
  });
  return report.type === FailureType.OUT_OF_MEMORY ? { ...report, message: `${report.message}${limit}` } : report;
}

function failureOf(error: unknown, socketPath: string): FailureReport {
  const message = error instanceof Error ? error.message : String(error);
  if (error instanceof NotHanded) return failureOfHanded(error.cause);
  if (error instanceof ContainerRefused) {
    return { type: FailureType.EVALUATION_ERROR, message, exceptionType: error.name, nonRetryable: true };
  }
  if (error instanceof ImageError) {
    const type = error.permanent ? FailureType.EVALUATION_ERROR : FailureType.NETWORK_ERROR;
    return { type, message, exceptionType: error.name, nonRetryable: error.permanent };
  }
  const status = statusOf(error);
  if (status === undefined) {
    const exceptionType = error instanceof Error && 'code' in error ? String(error.code) : undefined;
    return {
      type: FailureType.WORKER_CRASH,
      message: `Docker's API at ${socketPath} does not answer: ${message}`,
      ...(exceptionType !== undefined && { exceptionType }),
    };
  }
  // The daemon understood and will not: a command that the image has not, a user that is none.
  const isFinal = status < 500 || /executable file|no such file|not found|permission denied/i.test(message);
  return {
    type: isFinal ? FailureType.EVALUATION_ERROR : FailureType.WORKER_CRASH,
    message,
    exceptionType: `Docker ${status}`,
    nonRetryable: isFinal,
  };
}

function failed(failure: FailureReport): Outcome {
  return { kind: 'failure', failure };
}
