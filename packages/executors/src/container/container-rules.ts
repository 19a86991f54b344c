import { normalize } from 'node:path/posix';

/** What containers of this worker may be given. A task cannot change it. */
export interface ContainerRules {
  /**
   * Paths of this machine, and all below them, that may be mounted; with `:ro` only to be read. An entry without a slash is the name of
   * a volume. Whoever can mount a path as root owns what is in it. Default: none.
   */
  readonly mounts?: readonly string[];
  /** Networks that containers may be in. Default: none and bridge. */
  readonly networks?: readonly string[];
  /** Images, as written, where `*` stands for anything. Default: all. */
  readonly images?: readonly string[];
  /** Limits of each container's processes, `nofile=1024:4096` (soft:hard). Default: the daemon's. */
  readonly ulimits?: readonly string[];
}

/** What of these rules cannot be read, in words. */
export function wrongRules({ mounts = [], ulimits = [] }: ContainerRules): string[] {
  return [
    ...mounts.filter((each) => each.includes('..')).map((each) => `mount ${each} has ".." in it`),
    ...ulimits
      .filter((each) => !/^[a-z]+=-?\d+(:-?\d+)?$/.test(each))
      .map((each) => `limit ${each}; write it as nofile=1024:4096`),
  ];
}

export interface AskedMount {
  readonly source: string;
  readonly target: string;
  readonly readOnly: boolean;
}

/** Where a container finds the directory of its attempt. */
export const TASK_DIRECTORY = '/baton';

/** What a task asks of its container and may not have; each in words, with what would change it. */
export function refusedWishes(
  asked: { image: string; network: string; mounts: readonly AskedMount[] },
  rules: ContainerRules,
): string[] {
  const { mounts = [], networks = ['none', 'bridge'], images = ['*'] } = rules;
  const refused: string[] = [];
  if (!images.some((pattern) => matches(pattern, asked.image))) {
    refused.push(`image ${asked.image} is none of those that this worker takes (BATON_CONTAINER_IMAGES: ${images})`);
  }
  if (asked.network !== '' && !networks.includes(asked.network)) {
    refused.push(
      `network ${asked.network} is none of those that this worker allows (BATON_CONTAINER_NETWORKS: ${networks})`,
    );
  }
  for (const mount of asked.mounts) {
    const problem = refusedMount(mount, mounts);
    if (problem !== undefined) refused.push(problem);
  }
  return refused;
}

function refusedMount({ source, target, readOnly }: AskedMount, allowed: readonly string[]): string | undefined {
  const inside = normalize(target);
  if (inside === '/' || inside === TASK_DIRECTORY || inside.startsWith(`${TASK_DIRECTORY}/`)) {
    return `mount ${source}: ${target} is not a place for it`;
  }
  const isPath = source.startsWith('/');
  // `/data/../etc` is below /etc, whatever it looks like.
  const place = isPath ? normalize(source) : source;
  for (const entry of allowed) {
    const isReadOnly = entry.endsWith(':ro');
    const name = isReadOnly ? entry.slice(0, -3) : entry;
    const fits = name.startsWith('/')
      ? isPath && (place === normalize(name) || place.startsWith(`${normalize(name).replace(/\/$/, '')}/`))
      : !isPath && matches(name, place);
    if (!fits) continue;
    if (!isReadOnly || readOnly) return undefined;
    return `mount ${source}: this worker allows it to be read alone; ask for it with read_only`;
  }
  return `mount ${source}: this worker does not allow it (BATON_CONTAINER_MOUNTS: ${allowed.join(',') || 'none'})`;
}

function matches(pattern: string, text: string): boolean {
  const parts = pattern.split('*').map((part) => part.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`).test(text);
}
