import type { ContainerTaskExecutor, Lease } from '@baton/contract';
import type Docker from 'dockerode';
import { TASK_DIRECTORY } from './container-rules.ts';

/** Whose containers these are; written on each, so that they are found after a crash. */
export interface ContainerOwner {
  /** Name of the worker: stable over restarts. */
  readonly worker: string;
  /** Of this life of it. */
  readonly instance: string;
  readonly host: string;
  readonly pid: number;
}

export const LABEL = {
  worker: 'baton.worker',
  instance: 'baton.instance',
  host: 'baton.host',
  pid: 'baton.pid',
  task: 'baton.task',
  epoch: 'baton.epoch',
} as const;

/** Of a container whose task names none. */
const PIDS_LIMIT = 4096;

export interface ContainerPlan {
  readonly settings: ContainerTaskExecutor;
  readonly lease: Lease;
  /** Beside what every task finds; see `environmentOf`. */
  readonly environment: Readonly<Record<string, string>>;
  readonly workingDirectory: string;
  /** The attempt's directory on this machine. */
  readonly directory: string;
  /** The directory on this machine of the artifacts that it is handed; undefined: none. */
  readonly artifacts: string | undefined;
  /** UUIDs. */
  readonly devices: readonly string[];
  readonly owner: ContainerOwner;
  readonly ulimits: readonly { Name: string; Soft: number; Hard: number }[];
}

/** What Docker's API is asked for. No new privileges, no swap beyond the memory, and no restart: whether to try again is the master's to say. */
export function containerConfig(plan: ContainerPlan): Docker.ContainerCreateOptions {
  const { settings, lease, owner } = plan;
  const memory = Number(settings.memoryBytes);
  return {
    name: `baton-${lease.taskId}-${lease.epoch}-${owner.instance.slice(0, 8)}`,
    Image: settings.image,
    ...(settings.command.length > 0 && { Cmd: settings.command }),
    ...(settings.entrypoint.length > 0 && { Entrypoint: settings.entrypoint }),
    ...(settings.user !== '' && { User: settings.user }),
    ...(settings.platform !== '' && { platform: settings.platform }),
    WorkingDir: plan.workingDirectory,
    Env: Object.entries(plan.environment).map(([name, value]) => `${name}=${value}`),
    Labels: {
      [LABEL.worker]: owner.worker,
      [LABEL.instance]: owner.instance,
      [LABEL.host]: owner.host,
      [LABEL.pid]: String(owner.pid),
      [LABEL.task]: lease.taskId,
      [LABEL.epoch]: String(lease.epoch),
    },
    AttachStdout: true,
    AttachStderr: true,
    AttachStdin: settings.stdin,
    OpenStdin: settings.stdin,
    StdinOnce: settings.stdin,
    Tty: false,
    ...(settings.network === 'none' && { NetworkDisabled: true }),
    HostConfig: {
      Mounts: [
        ...settings.mounts.map(({ source, target, readOnly }) => ({
          Type: source.startsWith('/') ? ('bind' as const) : ('volume' as const),
          Source: source,
          Target: target,
          ReadOnly: readOnly,
        })),
        { Type: 'bind' as const, Source: plan.directory, Target: TASK_DIRECTORY, ReadOnly: false },
        // The worker's cache has the same files: nobody may write to them.
        ...(plan.artifacts === undefined
          ? []
          : [{ Type: 'bind' as const, Source: plan.artifacts, Target: `${TASK_DIRECTORY}/in`, ReadOnly: true }]),
      ],
      ...(settings.cpus > 0 && { NanoCpus: Math.round(settings.cpus * 1e9) }),
      ...(memory > 0 && { Memory: memory, MemorySwap: memory }),
      ...(settings.shmBytes > 0n && { ShmSize: Number(settings.shmBytes) }),
      PidsLimit: settings.pidsLimit || PIDS_LIMIT,
      ...(settings.readOnly && { ReadonlyRootfs: true, Tmpfs: { '/tmp': 'rw,nosuid,nodev' } }),
      ...(settings.network !== '' && { NetworkMode: settings.network }),
      SecurityOpt: ['no-new-privileges'],
      RestartPolicy: { Name: 'no' },
      // What it prints is read while it runs; a daemon that keeps it too would fill the disk.
      LogConfig: { Type: 'none', Config: {} },
      ...(plan.ulimits.length > 0 && { Ulimits: [...plan.ulimits] }),
      ...(plan.devices.length > 0 && {
        DeviceRequests: [{ Driver: 'nvidia', DeviceIDs: [...plan.devices], Capabilities: [['gpu']] }],
      }),
    },
  };
}
