import {
  createMachineMeter,
  type DeviceOptions,
  defaultTools,
  findTools,
  type HealthLimits,
  HealthMonitor,
  openDevices,
  type Tool,
} from '@baton/hardware';
import type { WorkerRuntime } from '@baton/runtime';
import type { Logger } from '@baton/telemetry';

/** How the machine is watched. Everything has a default. */
export interface HealthOptions {
  /** Where health ends and gates close; what is not said has its default. */
  readonly limits?: Partial<HealthLimits>;
  /** False: load of others never stops new work; health is told all the same. Default true. */
  readonly gates?: boolean;
  /** How often it is looked at, in milliseconds. Default 5 000. */
  readonly intervalMs?: number;
  /** The disk that is watched is the one that this path lies on. Default: the working directory. */
  readonly diskPath?: string;
  /** Processes whose trees count as this worker's own load, beside itself. */
  readonly ownPids?: readonly number[];
}

export interface WatchOptions {
  readonly health?: HealthOptions;
  readonly gpus?: DeviceOptions;
  /** Takes tasks of GPU classes and no others. */
  readonly needsDevice: boolean;
  /** Devices on which executors keep something for the next task. */
  readonly keptDevices: () => readonly string[];
  readonly log: Logger;
  readonly runtime: () => Pick<WorkerRuntime, 'masterUrl' | 'noteHealth' | 'noteDevices' | 'drain'>;
}

/** Watches this machine for a worker. Throws `SimulationError`. */
export function watchMachine({
  health = {},
  gpus = {},
  needsDevice,
  keptDevices,
  log,
  runtime,
}: WatchOptions): HealthMonitor {
  let wasHealthy = true;
  let gatesBefore = '';
  const devices = openDevices({
    ...gpus,
    onTrouble: (what, fields) => log.warn(what, fields),
  });
  if (devices.source === 'simulated') {
    log.warn('the devices are simulated', { declared: gpus.simulated });
  }
  return new HealthMonitor({
    devices,
    machine: createMachineMeter({
      ownRoots: [process.pid, ...(health.ownPids ?? [])],
      diskPath: health.diskPath ?? '.',
      masterUrl: () => runtime().masterUrl,
    }),
    ...(health.limits && { limits: health.limits }),
    ...(health.gates !== undefined && { gates: health.gates }),
    ...(health.intervalMs !== undefined && { intervalMs: health.intervalMs }),
    needsDevice,
    keptDevices,
    onReport(report, hasChanged) {
      const simulated = report.simulated ? { simulated: true } : {};
      if (hasChanged) {
        if (!report.healthy) {
          log.warn('machine is not well', {
            issues: report.issues.map(
              ({ code, device, message }) => `${code}${device === null ? '' : ` ${device}`}: ${message}`,
            ),
            ...simulated,
          });
        } else if (!wasHealthy) {
          log.info('machine is well', simulated);
        }
        wasHealthy = report.healthy;
        const gates = report.gates
          .map(({ code, device, message }) => `${code}${device === null ? '' : ` ${device}`}: ${message}`)
          .join('; ');
        if (gates !== gatesBefore) {
          log.info(gates === '' ? 'gates open' : 'gates closed', { ...(gates !== '' && { gates }), ...simulated });
          gatesBefore = gates;
        }
      }
      runtime().noteHealth(report, hasChanged);
    },
    onDevices(found) {
      log.info('devices found', {
        source: devices.source,
        gpus: found.map(({ uuid, model, simulated }) => `${uuid} ${model}${simulated ? ' (simulated)' : ''}`),
      });
      runtime().noteDevices();
    },
    onCritical(reason) {
      log.error('worker drains, its machine is not well', { reason });
      void runtime().drain(`its machine is not well: ${reason}`);
    },
  });
}

/** Programs do not come and go while a process lives: each list is looked for once. */
const found = new Map<string, Promise<readonly Tool[]>>();

export function toolsOf(names: readonly string[] = defaultTools): Promise<readonly Tool[]> {
  const key = names.join(',');
  let tools = found.get(key);
  if (tools === undefined) {
    tools = findTools(names);
    found.set(key, tools);
  }
  return tools;
}
