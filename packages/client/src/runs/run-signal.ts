import type { WorkflowService } from '@baton/contract';
import type { Client } from '@connectrpc/connect';
import { type CallOptions, type CallSettings, callRepeatably, requestOptions } from '../calls/call.ts';
import { encodeInput } from '../tasks/payload.ts';

export interface SignalOptions extends CallOptions {
  /** The same key for the same run is the same signal. Lets the call be repeated without harm. */
  readonly idempotencyKey?: string;
}

/** Sends a run a signal. Rejects for runs that have ended, and for those of graphs. */
export async function signalRun(
  client: Client<typeof WorkflowService>,
  settings: CallSettings,
  runId: string,
  name: string,
  payload: unknown,
  options: SignalOptions | undefined,
): Promise<void> {
  const request = {
    namespace: settings.namespace,
    runId,
    name,
    payload: encodeInput(payload),
    // Without one of the caller's own, a call that is repeated is known by this.
    idempotencyKey: options?.idempotencyKey ?? crypto.randomUUID(),
  };
  await callRepeatably(settings, options, () => client.signalRun(request, requestOptions(settings, options)));
}
