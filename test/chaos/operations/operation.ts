import type { Line } from '../client.ts';

/** Something that a client does. One file for each; a new one is added to the list in index.ts. */
export interface Operation {
  readonly name: string;
  /** How often it is drawn, against the others. */
  readonly weight: number;
  /**
   * Draws from the line's random numbers before it waits for anything, so that the seed decides them, and records what
   * became of it.
   */
  perform(line: Line): Promise<void>;
}
