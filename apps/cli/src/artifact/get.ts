import { BatonError } from '@baton/client';
import { writeWhole } from '../blob/get.ts';
import type { CliContext } from '../context.ts';
import { usageError } from '../exit.ts';
import { sizeText } from '../terminal/size.ts';
import type { GetFlags } from './artifact-flags.ts';

/** `baton artifact get RUN NODE NAME`. */
export async function get(
  this: CliContext,
  flags: GetFlags,
  runId: string,
  nodeId: string,
  name: string,
): Promise<void> {
  const { output, item } = flags;
  const baton = await this.connect(flags);
  const found = [];
  for await (const artifact of baton.artifacts.list({ runId, nodeId, name, signal: this.signal }))
    if (item === undefined || artifact.item === item) found.push(artifact);
  const [artifact] = found;
  if (artifact === undefined)
    throw new BatonError({
      code: 'not_found',
      reason: 'ARTIFACT_NOT_FOUND',
      message: `node ${nodeId} of run ${runId} has${item === undefined ? '' : `, for item ${item},`} no artifact ${JSON.stringify(name)}`,
    });
  if (found.length > 1) throw usageError(`node ${nodeId} has ${found.length} of them: name one by --item`);
  const content = baton.artifacts.get(artifact, { signal: this.signal });
  if (output === undefined) {
    for await (const part of content) await this.screen.bytes(part);
    return;
  }
  const size = await writeWhole(output, content);
  this.screen.note({ text: `${sizeText(size)} are in ${output}`, style: 'dim' });
}
