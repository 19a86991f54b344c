// NVIDIA's management library by FFI. Runs in the device child only: each of these calls can hang with the driver.
import { NoDriverError } from './reading.ts';

/** An opaque `nvmlDevice_t` or `nvmlEventSet_t`. */
export type Handle = object;

type Out<T> = [T | null];
type Code = number;

/** The calls that Baton makes, as in nvml.h. */
export interface NvmlCalls {
  init(): Code;
  shutdown(): Code;
  errorString(code: Code): string;
  driverVersion(text: Uint8Array, length: number): Code;
  count(out: Out<number>): Code;
  handleByIndex(index: number, out: Out<Handle>): Code;
  uuid(device: Handle, text: Uint8Array, length: number): Code;
  modelName(device: Handle, text: Uint8Array, length: number): Code;
  /** Three uint64: total, free, used. */
  memory(device: Handle, memory: Uint8Array): Code;
  /** Two uint32: GPU and memory, percent. */
  utilization(device: Handle, rates: Uint8Array): Code;
  temperature(device: Handle, sensor: number, out: Out<number>): Code;
  powerMilliwatts(device: Handle, out: Out<number>): Code;
  powerLimitMilliwatts(device: Handle, out: Out<number>): Code;
  /** @param kind 0 corrected, 1 uncorrected; @param counter 0 since the driver was loaded */
  eccErrors(device: Handle, kind: number, counter: number, out: Out<number | bigint>): Code;
  remappedRows(
    device: Handle,
    corrected: Out<number>,
    uncorrected: Out<number>,
    pending: Out<number>,
    failed: Out<number>,
  ): Code;
  /** Records of 24 bytes: uint32 pid, padding, uint64 memory, uint32 and uint32 of MIG. */
  processes(device: Handle, count: [number], infos: Uint8Array | null): Code;
  migMode(device: Handle, current: Out<number>, pending: Out<number>): Code;
  migCount(device: Handle, out: Out<number>): Code;
  migHandle(device: Handle, index: number, out: Out<Handle>): Code;
  eventSetCreate(out: Out<Handle>): Code;
  registerEvents(device: Handle, types: bigint, set: Handle): Code;
  /** A record of 32 bytes: the device's pointer, uint64 type, uint64 data (the XID), uint32 and uint32 of MIG. */
  eventWait(set: Handle, event: Uint8Array, timeoutMs: number): Code;
  /** The pointer's value, as it stands in an event. */
  addressOf(handle: Handle): bigint;
}

/** NVML's codes that mean something here. */
export const nvml = {
  success: 0,
  notSupported: 3,
  noPermission: 4,
  insufficientSize: 7,
  driverNotLoaded: 9,
  timeout: 10,
  libraryNotFound: 12,
  functionNotFound: 13,
  gpuIsLost: 15,
  resetRequired: 16,
} as const;

/** `nvmlEventTypeXidCriticalError`. */
export const xidEvents = 8n;

/** `NVML_VALUE_NOT_AVAILABLE`. */
export const notAvailable = 0xffff_ffff_ffff_ffffn;

export function defaultLibrary(platform: NodeJS.Platform): string {
  return platform === 'win32' ? 'nvml.dll' : 'libnvidia-ml.so.1';
}

/**
 * Loads the library. What an older one lacks answers with `functionNotFound`.
 * Throws `NoDriverError` where there is no library, or no FFI for this platform.
 */
export async function loadNvml(path: string): Promise<NvmlCalls> {
  let koffi: typeof import('koffi').default;
  try {
    koffi = (await import('koffi')).default;
  } catch (error) {
    throw new NoDriverError(`koffi cannot be loaded: ${String(error)}`);
  }
  let library: ReturnType<typeof koffi.load>;
  try {
    library = koffi.load(path);
  } catch (error) {
    throw new NoDriverError(`${path} cannot be loaded: ${error instanceof Error ? error.message : String(error)}`);
  }
  const device = koffi.pointer('BatonNvmlDevice', koffi.opaque());
  const eventSet = koffi.pointer('BatonNvmlEventSet', koffi.opaque());
  const out = (type: string | typeof device) => koffi.out(koffi.pointer(type as string));
  const number = out('uint32_t');
  const long = out('uint64_t');
  const bytes = koffi.pointer('uint8_t');
  // biome-ignore lint/suspicious/noExplicitAny: the signature of each is declared in NvmlCalls
  type Any = any;
  /** The first of these that the library has. */
  const call = (names: readonly string[], result: string, parameters: readonly Any[]): Any => {
    for (const name of names) {
      try {
        return library.func(name, result, [...parameters]);
      } catch {
        // An older library: the next name.
      }
    }
    return () => nvml.functionNotFound;
  };
  const code = 'int';
  const calls: NvmlCalls = {
    init: call(['nvmlInit_v2'], code, []),
    shutdown: call(['nvmlShutdown'], code, []),
    errorString: call(['nvmlErrorString'], 'str', [code]),
    driverVersion: call(['nvmlSystemGetDriverVersion'], code, [bytes, 'uint32_t']),
    count: call(['nvmlDeviceGetCount_v2'], code, [number]),
    handleByIndex: call(['nvmlDeviceGetHandleByIndex_v2'], code, ['uint32_t', out(device)]),
    uuid: call(['nvmlDeviceGetUUID'], code, [device, bytes, 'uint32_t']),
    modelName: call(['nvmlDeviceGetName'], code, [device, bytes, 'uint32_t']),
    memory: call(['nvmlDeviceGetMemoryInfo'], code, [device, bytes]),
    utilization: call(['nvmlDeviceGetUtilizationRates'], code, [device, bytes]),
    temperature: call(['nvmlDeviceGetTemperature'], code, [device, code, number]),
    powerMilliwatts: call(['nvmlDeviceGetPowerUsage'], code, [device, number]),
    powerLimitMilliwatts: call(['nvmlDeviceGetEnforcedPowerLimit'], code, [device, number]),
    eccErrors: call(['nvmlDeviceGetTotalEccErrors'], code, [device, code, code, long]),
    remappedRows: call(['nvmlDeviceGetRemappedRows'], code, [device, number, number, number, number]),
    processes: call(['nvmlDeviceGetComputeRunningProcesses_v3', 'nvmlDeviceGetComputeRunningProcesses_v2'], code, [
      device,
      koffi.inout(koffi.pointer('uint32_t')),
      bytes,
    ]),
    migMode: call(['nvmlDeviceGetMigMode'], code, [device, number, number]),
    migCount: call(['nvmlDeviceGetMaxMigDeviceCount'], code, [device, number]),
    migHandle: call(['nvmlDeviceGetMigDeviceHandleByIndex'], code, [device, 'uint32_t', out(device)]),
    eventSetCreate: call(['nvmlEventSetCreate'], code, [out(eventSet)]),
    registerEvents: call(['nvmlDeviceRegisterEvents'], code, [device, 'uint64_t', eventSet]),
    eventWait: call(['nvmlEventSetWait_v2', 'nvmlEventSetWait'], code, [eventSet, bytes, 'uint32_t']),
    addressOf: (handle) => BigInt(koffi.address(handle) as bigint | number),
  };
  return calls;
}
