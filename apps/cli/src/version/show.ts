import manifest from '../../package.json' with { type: 'json' };
import type { CliContext } from '../context.ts';
import type { OutputFlags } from '../flags.ts';

/** `baton version`. */
export async function show(this: CliContext, { output }: OutputFlags): Promise<void> {
  const { version } = manifest;
  const { node, platform, arch } = { node: process.versions.node, platform: process.platform, arch: process.arch };
  if (output === 'json') this.screen.json({ version, node, platform, arch });
  else this.screen.line(`baton ${version} (Node ${node}, ${platform} ${arch})`);
}
