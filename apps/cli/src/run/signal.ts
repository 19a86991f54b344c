import { JsonText } from '@baton/client';
import type { CliContext } from '../context.ts';
import { usageError } from '../exit.ts';
import type { SignalFlags } from './run-flags.ts';

/** `baton run signal RUN NAME`. */
export async function signal(this: CliContext, flags: SignalFlags, id: string, name: string): Promise<void> {
  const baton = await this.connect(flags);
  await baton.runs.signal(id, name, payloadOf(flags.data), { idempotencyKey: flags.key, signal: this.signal });
  this.record({ run_id: id, name });
  if (flags.output === 'json') this.screen.json({ id, name });
  else this.screen.line(`run ${id} was sent ${name}`);
}

function payloadOf(data: string | undefined): JsonText | undefined {
  if (data === undefined) return undefined;
  try {
    return new JsonText(data);
  } catch (error) {
    throw usageError(`--data is not JSON: ${(error as Error).message}`);
  }
}
