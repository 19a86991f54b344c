import { toMermaid } from '@baton/client';
import type { CliContext } from '../context.ts';
import type { GetFlags } from './run-flags.ts';
import { nodeTableLines, runHeadline } from './show.ts';

/** `baton run get RUN`. */
export async function get(this: CliContext, flags: GetFlags, id: string): Promise<void> {
  const baton = await this.connect(flags);
  const run = await baton.runs.get(id, { signal: this.signal });
  if (flags.mermaid) {
    for (const line of toMermaid(run).trimEnd().split('\n')) this.screen.line(line);
    return;
  }
  if (flags.output === 'json') {
    this.screen.json(run);
    return;
  }
  this.screen.line(...runHeadline(run, this.now()));
  if (run.failureMessage !== undefined) {
    this.screen.line({ text: `failed at ${run.failedNodeId ?? 'no node'}: ${run.failureMessage}`, style: 'red' });
  }
  if (run.cancelReason !== undefined) this.screen.line(`cancelled: ${run.cancelReason}`);
  for (const line of nodeTableLines(run, this.now())) this.screen.line(...line);
}
