import { type HealthSample, HealthSampleSchema, type MachineHealth, MachineHealthSchema } from '@baton/contract';
import { storableText } from '@baton/domain';
import type { HealthMinute, WorkerRow } from '@baton/engine';
import { create, fromJson, type JsonObject, type JsonValue, toJson } from '@bufbuild/protobuf';
import { timestampFromDate } from '@bufbuild/protobuf/wkt';

/** What a heartbeat says of its machine, as it is kept: the message's own JSON, which views and people read. */
export function toldHealth(message: MachineHealth) {
  const report = storable({
    ...(toJson(MachineHealthSchema, message, { alwaysEmitImplicit: true }) as JsonObject),
    ageMs: '0',
  });
  return {
    healthy: message.healthy,
    // Of a clock that stood still or went wrong no time before the worker's first report is believed.
    ageMs: Math.min(Number(message.ageMs), 86_400_000),
    report,
    sample: sampleOf(report, message),
  };
}

const charted = ['cpuPercent', 'foreignCpuPercent', 'memoryPercent', 'diskPercent', 'networkLatencyMs'] as const;
const chartedOfGpu = ['uuid', 'loadPercent', 'temperatureC', 'memoryUsedBytes', 'powerWatts'] as const;

function sampleOf(report: JsonObject, message: MachineHealth) {
  const pick = (from: JsonObject, names: readonly string[]) =>
    Object.fromEntries(names.filter((name) => from[name] !== undefined).map((name) => [name, from[name]]));
  return {
    ...pick(report, charted),
    issues: [...new Set(message.issues.map((issue) => storableText(issue.code)))].sort(),
    gpus: ((report.gpus ?? []) as JsonObject[]).map((gpu) => pick(gpu, chartedOfGpu)),
  };
}

/** Text in jsonb takes neither NUL nor lone surrogates; a driver may say anything. */
function storable(json: JsonObject): JsonObject {
  return JSON.parse(
    JSON.stringify(json, (_, value: unknown) => (typeof value === 'string' ? storableText(value) : value)),
  ) as JsonObject;
}

/** The newest report of a worker; undefined: it told none. */
export function healthMessage(health: WorkerRow['health']): MachineHealth | undefined {
  if (!health) return undefined;
  const message = fromJson(MachineHealthSchema, health.report as JsonValue, { ignoreUnknownFields: true });
  message.ageMs = BigInt(Math.max(0, Math.round(health.ageMs)));
  return message;
}

export function minuteMessage({ minute, healthy, sample }: HealthMinute): HealthSample {
  const message = create(
    HealthSampleSchema,
    fromJson(HealthSampleSchema, sample as JsonValue, { ignoreUnknownFields: true }),
  );
  message.time = timestampFromDate(minute);
  message.healthy = healthy;
  return message;
}
