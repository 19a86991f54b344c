/** A worker of a test's own making, on the wire: it says what the test wants it to say. */
import {
  type Failure,
  type FailureSchema,
  type Lease,
  MasterService,
  type Orders,
  TaskClass,
  type WorkerCapabilitiesSchema,
} from '@baton/contract';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { createClient } from '@connectrpc/connect';
import { createGrpcTransport } from '@connectrpc/connect-node';

export interface RawWorker extends AsyncDisposable {
  readonly sessionId: string;
  /** Leases that are granted within this time (default 20 s), at most `slots`; as soon as there are any. */
  take(slots: number, waitMs?: number): Promise<Lease[]>;
  succeed(lease: Lease): Promise<void>;
  fail(lease: Lease, failure: MessageInitShape<typeof FailureSchema>): Promise<void>;
  heartbeat(): Promise<Orders | undefined>;
}

/** Registers; renews by itself until it is disposed of. Takes functions of kind "work", unless the capabilities say otherwise. */
export async function rawWorker(
  url: string,
  name: string,
  capabilities: MessageInitShape<typeof WorkerCapabilitiesSchema> = {},
): Promise<RawWorker> {
  const master = createClient(MasterService, createGrpcTransport({ baseUrl: url }));
  const { sessionId } = await master.registerWorker({
    name,
    instanceId: crypto.randomUUID(),
    protocolVersion: capabilities.gpus ? 4 : 1,
    capabilities: {
      taskClasses: [TaskClass.CPU_SHORT, TaskClass.GPU],
      executors: ['function'],
      kinds: ['work'],
      slots: 4,
      ...capabilities,
    },
  });
  const held = new Map<string, Lease>();
  let quarantined: readonly string[] = [];
  let number = 0n;
  const heartbeat = async () => {
    const answer = await master.heartbeat({
      sessionId,
      number: ++number,
      held: [...held.values()].map(({ taskId, epoch }) => ({ taskId, epoch, started: true })),
      heldIsComplete: true,
    });
    quarantined = answer.orders?.quarantinedDevices ?? [];
    return answer.orders;
  };
  const timer = setInterval(() => void heartbeat().catch(() => {}), 500);
  const report = async (lease: Lease, outcome: object) => {
    held.delete(lease.taskId);
    const result = { taskId: lease.taskId, epoch: lease.epoch, outcome, ranUs: 1n } as never;
    const { refused } = await master.exchange({ sessionId, number: ++number, results: [result] });
    if (refused.length > 0) throw new RefusedError(refused[0]!.message);
  };
  return {
    sessionId,
    async take(slots, waitMs = 20_000) {
      const taken = [...held.values()].flatMap((lease) => lease.devices);
      const devices = (capabilities.gpus ?? []).flatMap(({ uuid = '' }) =>
        quarantined.includes(uuid) || taken.includes(uuid) ? [] : [{ uuid }],
      );
      const withDevices = { free: { cpus: 64, memoryBytes: 2n ** 38n }, devices, resourceSlots: slots };
      const offer = { number: ++number, freeSlots: slots, ...(capabilities.gpus && withDevices) };
      const { leases } = await master.exchange({ sessionId, number, offer, waitMs });
      for (const lease of leases) held.set(lease.taskId, lease);
      return leases;
    },
    succeed: (lease) =>
      report(lease, { case: 'success', value: { output: new TextEncoder().encode('1'), encoding: 1 } }),
    fail: (lease, failure) => report(lease, { case: 'failure', value: failure as Failure }),
    heartbeat,
    async [Symbol.asyncDispose]() {
      clearInterval(timer);
    },
  };
}

/** The master did not take a result. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError';
}
