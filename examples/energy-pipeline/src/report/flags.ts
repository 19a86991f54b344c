import { textWidth } from './svg.ts';

/** A note on a pole: it stands above the plot, its pole runs down to the mark at `x`. */
export interface Flag {
  readonly x: number;
  readonly lines: readonly { readonly text: string; readonly size: number; readonly weight: 400 | 600 }[];
}

/** Where a flag hangs. `row` counts from the plot upward; a flag without room on its right hangs to the left. */
export interface PlacedFlag<F extends Flag> {
  readonly flag: F;
  readonly row: number;
  readonly side: 'right' | 'left';
}

/** Space between pole and text, and between two texts. */
export const FLAG_GAP = 8;

/**
 * Puts flags in rows so that no two texts touch and no pole runs through a text. Earlier flags are served first; those
 * that find no place are left out, and the caller says how many.
 *
 * @param bounds the left and right end of the space for texts
 */
export function placeFlags<F extends Flag>(
  flags: readonly F[],
  bounds: readonly [number, number],
  maxRows: number,
): PlacedFlag<F>[] {
  type Span = { row: number; x: number; from: number; to: number };
  const spans: Span[] = [];
  const placed: PlacedFlag<F>[] = [];
  for (const flag of flags) {
    const width = Math.max(...flag.lines.map(({ text, size, weight }) => textWidth(text, size, weight))) + FLAG_GAP;
    const free = (candidate: Span) =>
      spans.every((other) => {
        if (other.row === candidate.row && other.from < candidate.to && candidate.from < other.to) return false;
        const [upper, lower] = other.row > candidate.row ? [other, candidate] : [candidate, other];
        return upper.row === lower.row || upper.x <= lower.from || upper.x >= lower.to;
      });
    const candidates = Array.from({ length: maxRows }, (_, row) => [
      { side: 'right' as const, span: { row, x: flag.x, from: flag.x, to: flag.x + width } },
      { side: 'left' as const, span: { row, x: flag.x, from: flag.x - width, to: flag.x } },
    ]).flat();
    const found = candidates.find(({ span }) => span.from >= bounds[0] && span.to <= bounds[1] && free(span));
    if (found === undefined) continue;
    spans.push(found.span);
    placed.push({ flag, row: found.span.row, side: found.side });
  }
  return placed;
}
