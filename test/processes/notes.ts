import { existsSync, readFileSync } from 'node:fs';

/** What the training loop wrote of itself. */
export interface Note {
  readonly what: 'start' | 'saved' | 'wanted';
  readonly from?: number;
  readonly step?: number;
  readonly attempt?: number;
  readonly epoch: number;
  readonly pid?: number;
}

export function readNotes(path: string): Note[] {
  if (!existsSync(path)) return [];
  const lines = readFileSync(path, 'utf8').split('\n');
  lines.pop(); // the last one is empty, or being written
  return lines.map((line) => JSON.parse(line) as Note);
}

/** Living processes whose environment has this text; of Linux. */
export function processesWith(text: string, pids: readonly string[]): number[] {
  return pids
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'latin1').includes(text);
      } catch {
        return false;
      }
    })
    .map(Number);
}
