import manifest from '../../package.json' with { type: 'json' };

/** Of this command, and what it runs on. */
export function readVersion() {
  const { platform, arch, versions } = process;
  return { version: manifest.version, node: versions.node, platform, arch };
}

/** One line: `baton 0.1.0 (Node 24.1.0, linux x64)`. */
export function versionText(): string {
  const { version, node, platform, arch } = readVersion();
  return `baton ${version} (Node ${node}, ${platform} ${arch})`;
}
