import { hostname, tmpdir, userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { type TaskClassName, taskClassNames } from '@baton/client';
import { addressRules, type ContainerRules, wrongRules } from '@baton/executors';
import {
  checkSimulation,
  type DeviceOptions,
  defaultTools,
  type HealthLimits,
  type Machine,
  readMachine,
} from '@baton/hardware';
import type { LogLevel } from '@baton/telemetry';
import { readLimits } from './health-limits.ts';
import type { HealthOptions } from './watch-machine.ts';

/** All that the worker process reads from its surroundings, read once. Lists are separated by commas. */
export interface WorkerConfig {
  /** BATON_URL, --url: of a master, or of several of one Postgres. Default http://127.0.0.1:7800. */
  readonly urls: readonly string[];
  /** BATON_NAMESPACE, --namespace. Default "default". */
  readonly namespace: string;
  /** BATON_WORKER_NAME, --name. Stable over restarts, unique in the namespace. Default: the host's name. */
  readonly name: string;
  /** BATON_WORKER_SLOTS, --slots: tasks at once. Default: the processors of the machine. */
  readonly slots: number;
  /** BATON_WORKER_CLASSES, --classes: of cpu_short, cpu_long, gpu, gpu_slurm. Default: cpu_short and cpu_long. */
  readonly classes: readonly TaskClassName[];
  /** BATON_WORKER_TAGS, --tags. */
  readonly tags: readonly string[];
  /** BATON_WORKER_QUEUES, --queues. Default: all. */
  readonly queues: readonly string[];
  /** BATON_WORKER_TASKS, --tasks: paths of modules that export tasks. */
  readonly modules: readonly string[];
  /** BATON_WORKER_WATCH=1, --watch: follow changes of those modules. */
  readonly watch: boolean;
  /** BATON_WORKER_HOST, --host: where WorkerService listens. Default 127.0.0.1. */
  readonly host: string;
  /** BATON_WORKER_PORT, --port. 0: any free one. Default 7801, or any free one when that is taken. */
  readonly port: number;
  /** The port was asked for and not the default: when it is taken, that is an error. */
  readonly portIsFixed: boolean;
  /** BATON_WORKER_CORS_ORIGINS, --cors-origins: exact origins whose pages may call WorkerService. */
  readonly corsOrigins: readonly string[];
  /** BATON_COMPRESSION, --compression: auto (unless the master is on this machine), gzip or none. Default auto. */
  readonly compression: 'auto' | 'gzip' | 'none';
  /** BATON_TASK_ENV, --task-env: names of variables that tasks may be handed where they ask for them. Their values, by name. Default: none. */
  readonly taskVariables: Readonly<Record<string, string>>;
  /** BATON_WORKER_CPUS, BATON_WORKER_MEMORY_GIB, --cpus, --memory-gib: in place of what is found. */
  readonly machine: Partial<Machine>;
  /** BATON_WORKER_TOOLS, --tools: programs to look for; "none". Default: a list of usual ones. */
  readonly tools: readonly string[];
  /**
   * BATON_SIMULATED_GPUS, --simulated-gpus: devices that are declared and not there: 4xH100:80, JSON, or the path of a JSON file.
   * BATON_GPU_SOURCE: auto, nvml, nvidia-smi, none. BATON_GPUS, --gpus: only these, by UUID or index. BATON_NVML_LIBRARY: its path.
   */
  readonly gpus: DeviceOptions;
  /**
   * BATON_HEALTH, --health: limits as name=value, by commas. BATON_GATES=off, --gates off: load of others stops no work.
   * BATON_HEALTH_INTERVAL_MS: how often, default 5 000. BATON_HEALTH_DISK: a path on the disk that is watched, default the working
   * directory. BATON_HEALTH_OWN_PIDS: processes whose trees count as the worker's own load.
   */
  readonly health: HealthOptions;
  /**
   * BATON_HTTP_ALLOW, --http-allow: where requests of http tasks may go: `public`, addresses, ranges, hosts, each with an optional port.
   * Default public.
   */
  readonly httpAllow: readonly string[];
  /** BATON_CONTAINER_SOCKET, --container-socket: of Docker's API. Default: none, and no containers. */
  readonly containers: { readonly socketPath: string; readonly rules: ContainerRules } | undefined;
  /**
   * BATON_PROCESS_ALLOW, --process-allow: programs that process tasks may start, by path or name; `any`; or `none`, and no process tasks.
   * Default any.
   */
  readonly processAllow: readonly string[] | 'any' | 'none';
  /** BATON_TASK_DIR, --task-dir: where the programs of tasks have their directories. Default: one in the system's for temporary files. */
  readonly taskDirectory: string;
  /** What every program of a task finds: PATH, HOME, LANG, LC_ALL, TZ, USER, as far as they are set. */
  readonly programVariables: Readonly<Record<string, string>>;
  /**
   * BATON_CACHE_DIR, --cache-dir, BATON_CACHE_MIB, --cache-mib: where files lie that tasks are handed and produce, and how many MiB of them stay.
   * Default .baton/cache, 10 240.
   */
  readonly cache: { readonly directory: string; readonly maxBytes: number };
  /** LOG_DIR, --log-dir. Default logs. */
  readonly logDir: string;
  /** BATON_LOG_LEVEL, --log-level: debug, info, warn, error. Default info. */
  readonly logLevel: LogLevel;
}

/** The surroundings say something that cannot be; `problems` has all of it, each with its fix. */
export class WorkerConfigError extends Error {
  override readonly name = 'WorkerConfigError';
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join('\n'));
    this.problems = problems;
  }
}

const variables = {
  url: 'BATON_URL',
  namespace: 'BATON_NAMESPACE',
  name: 'BATON_WORKER_NAME',
  slots: 'BATON_WORKER_SLOTS',
  classes: 'BATON_WORKER_CLASSES',
  tags: 'BATON_WORKER_TAGS',
  queues: 'BATON_WORKER_QUEUES',
  tasks: 'BATON_WORKER_TASKS',
  watch: 'BATON_WORKER_WATCH',
  host: 'BATON_WORKER_HOST',
  port: 'BATON_WORKER_PORT',
  'cors-origins': 'BATON_WORKER_CORS_ORIGINS',
  compression: 'BATON_COMPRESSION',
  'task-env': 'BATON_TASK_ENV',
  'task-dir': 'BATON_TASK_DIR',
  'process-allow': 'BATON_PROCESS_ALLOW',
  cpus: 'BATON_WORKER_CPUS',
  'memory-gib': 'BATON_WORKER_MEMORY_GIB',
  tools: 'BATON_WORKER_TOOLS',
  'simulated-gpus': 'BATON_SIMULATED_GPUS',
  'gpu-source': 'BATON_GPU_SOURCE',
  gpus: 'BATON_GPUS',
  'nvml-library': 'BATON_NVML_LIBRARY',
  health: 'BATON_HEALTH',
  gates: 'BATON_GATES',
  'health-interval-ms': 'BATON_HEALTH_INTERVAL_MS',
  'health-disk': 'BATON_HEALTH_DISK',
  'health-own-pids': 'BATON_HEALTH_OWN_PIDS',
  'http-allow': 'BATON_HTTP_ALLOW',
  'container-socket': 'BATON_CONTAINER_SOCKET',
  'container-mounts': 'BATON_CONTAINER_MOUNTS',
  'container-networks': 'BATON_CONTAINER_NETWORKS',
  'container-images': 'BATON_CONTAINER_IMAGES',
  'container-ulimits': 'BATON_CONTAINER_ULIMITS',
  'cache-dir': 'BATON_CACHE_DIR',
  'cache-mib': 'BATON_CACHE_MIB',
  'log-dir': 'LOG_DIR',
  'log-level': 'BATON_LOG_LEVEL',
} as const;

type Flag = keyof typeof variables;

const defaultPort = 7801;
/** Of one user alone: others may not look into it, nor make it first. */
const defaultTaskDirectory = join(tmpdir(), `baton-tasks-${userInfo().uid}`);
const programVariables = ['PATH', 'HOME', 'LANG', 'LC_ALL', 'TZ', 'USER'];
const gpuSources: readonly string[] = ['auto', 'nvml', 'nvidia-smi', 'none'];
const logLevels: readonly LogLevel[] = ['debug', 'info', 'warn', 'error'];
const compressions: readonly WorkerConfig['compression'][] = ['auto', 'gzip', 'none'];

/** Flags win over the environment. Throws `WorkerConfigError`. */
export function readConfig(
  env: Readonly<Record<string, string | undefined>>,
  argv: readonly string[] = [],
): WorkerConfig {
  const problems: string[] = [];
  const flags = readFlags(argv, problems);
  const text = (flag: Flag, fallback = ''): string => flags[flag] || env[variables[flag]] || fallback;
  const list = (flag: Flag): string[] =>
    text(flag)
      .split(',')
      .map((each) => each.trim())
      .filter((each) => each !== '');
  const source = (flag: Flag): string => (flags[flag] ? `--${flag}` : variables[flag]);
  const whole = (flag: Flag, fallback: number, least: number, most: number): number => {
    const value = text(flag);
    if (value === '') {
      return fallback;
    }
    if (!/^\d{1,9}$/.test(value) || Number(value) < least || Number(value) > most) {
      problems.push(`${source(flag)} is "${value}"; write a whole number from ${least} to ${most}`);
    }
    return Number(value);
  };

  const urls = text('url', 'http://127.0.0.1:7800')
    .split(',')
    .map((each) => each.trim());
  urls.forEach((url, i) => {
    if (URL.parse(url)?.protocol !== 'http:') {
      const place = urls.length === 1 ? source('url') : `URL ${i + 1} of ${urls.length} of ${source('url')}`;
      problems.push(`${place} is ${url === '' ? 'empty' : `"${url}"`}; write it as http://host:port`);
    }
  });
  const classes = list('classes');
  const unknown = classes.filter((name) => !taskClassNames.includes(name as TaskClassName));
  if (unknown.length > 0) {
    problems.push(`${source('classes')} has ${unknown.join(', ')}; there are ${taskClassNames.join(', ')}`);
  }
  const logLevel = text('log-level', 'info') as LogLevel;
  if (!logLevels.includes(logLevel)) {
    problems.push(`${source('log-level')} is "${logLevel}"; there are ${logLevels.join(', ')}`);
  }
  const compression = text('compression', 'auto') as WorkerConfig['compression'];
  if (!compressions.includes(compression)) {
    problems.push(`${source('compression')} is "${compression}"; there are ${compressions.join(', ')}`);
  }
  const gpuSource = text('gpu-source', 'auto');
  if (!gpuSources.includes(gpuSource)) {
    problems.push(`${source('gpu-source')} is "${gpuSource}"; there are ${gpuSources.join(', ')}`);
  }
  const gates = text('gates', 'on');
  if (!['on', 'off'].includes(gates)) {
    problems.push(`${source('gates')} is "${gates}"; write on or off`);
  }
  const limits: Partial<HealthLimits> = readLimits(text('health'), source('health'), problems);
  const pids = list('health-own-pids');
  if (pids.some((pid) => !/^\d{1,9}$/.test(pid))) {
    problems.push(
      `${source('health-own-pids')} is "${text('health-own-pids')}"; write numbers of processes, by commas`,
    );
  }
  const simulated = text('simulated-gpus');
  if (simulated !== '') {
    try {
      checkSimulation(simulated);
    } catch (error) {
      problems.push(`${source('simulated-gpus')}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  const toolNames = list('tools');
  const httpAllow = text('http-allow') === '' ? ['public'] : list('http-allow');
  try {
    addressRules(httpAllow);
  } catch (error) {
    problems.push(`${source('http-allow')}: ${error instanceof Error ? error.message : error}`);
  }
  const containerRules = {
    mounts: list('container-mounts'),
    networks: list('container-networks'),
    images: list('container-images'),
    ulimits: list('container-ulimits'),
  };
  for (const problem of wrongRules(containerRules)) {
    problems.push(`BATON_CONTAINER_*: ${problem}`);
  }
  const config: WorkerConfig = {
    urls,
    namespace: text('namespace', 'default'),
    name: text('name', hostname()),
    slots: whole('slots', readMachine().cpus, 1, 100_000),
    classes: classes as TaskClassName[],
    tags: list('tags'),
    queues: list('queues'),
    modules: list('tasks'),
    watch: ['1', 'true', 'yes'].includes(text('watch').toLowerCase()),
    host: text('host', '127.0.0.1'),
    port: whole('port', defaultPort, 0, 65_535),
    portIsFixed: text('port') !== '',
    corsOrigins: list('cors-origins'),
    compression,
    taskVariables: pick(env, list('task-env')),
    processAllow: allowOf(list('process-allow')),
    taskDirectory: resolve(text('task-dir', defaultTaskDirectory)),
    programVariables: pick(env, programVariables),
    machine: {
      ...(text('cpus') !== '' && { cpus: whole('cpus', 1, 1, 100_000) }),
      ...(text('memory-gib') !== '' && { memoryBytes: whole('memory-gib', 1, 1, 1_000_000) * 1024 ** 3 }),
    },
    tools: toolNames.length === 0 ? defaultTools : toolNames.filter((each) => each !== 'none'),
    gpus: {
      source: gpuSource as NonNullable<DeviceOptions['source']>,
      ...(simulated !== '' && { simulated }),
      ...(list('gpus').length > 0 && { only: list('gpus') }),
      ...(text('nvml-library') !== '' && { nvmlLibrary: text('nvml-library') }),
    },
    health: {
      limits,
      gates: gates === 'on',
      intervalMs: whole('health-interval-ms', 5_000, 50, 3_600_000),
      ownPids: pids.map(Number),
      ...(text('health-disk') !== '' && { diskPath: text('health-disk') }),
    },
    httpAllow,
    containers: containersOf(text('container-socket'), containerRules),
    cache: {
      directory: text('cache-dir', '.baton/cache'),
      maxBytes: whole('cache-mib', 10_240, 0, 999_999_999) * 1024 ** 2,
    },
    logDir: text('log-dir', 'logs'),
    logLevel,
  };
  if (problems.length > 0) {
    throw new WorkerConfigError(problems);
  }
  return Object.freeze(config);
}

/** What is not said has the executor's default. */
function containersOf(socket: string, rules: Required<ContainerRules>): WorkerConfig['containers'] {
  if (socket === '') {
    return undefined;
  }
  const said = Object.entries(rules).filter(([, values]) => values.length > 0);
  return { socketPath: socket.replace(/^unix:\/\//, ''), rules: Object.fromEntries(said) };
}

function allowOf(names: readonly string[]): WorkerConfig['processAllow'] {
  if (names.length === 0 || names.includes('any')) {
    return 'any';
  }
  return names.includes('none') ? 'none' : names;
}

/** What the names stand for; those that are not there are left out. */
function pick(env: Readonly<Record<string, string | undefined>>, names: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = Object.hasOwn(env, name) ? env[name] : undefined;
      return value === undefined ? [] : [[name, value]];
    }),
  );
}

function readFlags(argv: readonly string[], problems: string[]): Partial<Record<Flag, string>> {
  const names = Object.keys(variables) as Flag[];
  const options = Object.fromEntries(
    names.map((name) => [name, name === 'watch' ? { type: 'boolean' as const } : { type: 'string' as const }]),
  );
  try {
    const { values } = parseArgs({ args: [...argv], options, allowPositionals: false });
    return Object.fromEntries(
      Object.entries(values).map(([name, value]) => [name, value === true ? '1' : String(value)]),
    );
  } catch (error) {
    problems.push(error instanceof Error ? error.message : String(error));
    return {};
  }
}
