/** What a task needs more of than this: the machine's memory, or that of its largest GPU. */
export interface MemoryFloor {
  of: 'memory' | 'gpu_memory';
  bytes: number;
}

const PATTERN = /^(memory|gpu_memory)>(\d{1,15})$/;

/**
 * The floor that a lane's tag stands for; null where it is a tag like others. Written as a tag, so that a lane is what it was, and a
 * master of the version before, which knows no such tag, leaves these tasks to the others.
 */
export function memoryFloor(tag: string): MemoryFloor | null {
  const match = PATTERN.exec(tag);
  return match ? { of: match[1] as MemoryFloor['of'], bytes: Number(match[2]) } : null;
}

export function memoryFloorTag({ of, bytes }: MemoryFloor): string {
  return `${of}>${Math.round(bytes)}`;
}

/** Bytes for people: `15.6 GiB`. */
export function memoryText(bytes: number): string {
  if (bytes <= 0) return 'unknown memory';
  const gib = bytes / 2 ** 30;
  return gib >= 1 ? `${gib.toFixed(1)} GiB` : `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}
