import { basename } from 'node:path';
import type { CliContext } from '../context.ts';
import { sizeText } from '../terminal/size.ts';
import type { PutFlags } from './artifact-flags.ts';
import { openFile } from './open-file.ts';

/** `baton artifact put FILE`. */
export async function put(this: CliContext, flags: PutFlags, file: string): Promise<void> {
  const data = await openFile(file);
  const baton = await this.connect(flags);
  const artifact = await baton.artifacts.put(flags.name ?? basename(file), data, { signal: this.signal });
  const { name, sha256, sizeBytes } = artifact;
  this.record({ name, sha256, size_bytes: sizeBytes });
  if (flags.output === 'json') {
    this.screen.json(artifact);
    return;
  }
  this.screen.line(sha256);
  this.screen.note({
    text: `${sizeText(sizeBytes)} are kept; hand them to a task: --artifact ${name}=${sha256}`,
    style: 'dim',
  });
}
