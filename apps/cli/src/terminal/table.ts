import { cleanLine } from './clean.ts';
import type { Piece, Screen, Style } from './screen.ts';

/** A cell: its text, or its text and style. Undefined is shown as a dash. */
export type Cell = string | number | undefined | { readonly text: string; readonly style: Style | undefined };

/** The lines of a table, its columns as wide as they must be; the last column is cut to the terminal's width. */
export function tableLines(heads: readonly string[], rows: readonly (readonly Cell[])[], maxWidth?: number): Piece[][] {
  const cells = rows.map((row) => row.map(toPiece));
  const widths = heads.map((head, column) => {
    let width = head.length;
    for (const row of cells) width = Math.max(width, [...row[column]!.text].length);
    return width;
  });
  const lines: { readonly text: string; readonly style: Style | undefined }[][] = [
    heads.map((text) => ({ text, style: 'dim' })),
    ...cells,
  ];
  return lines.map((row) => {
    const pieces: Piece[] = [];
    let used = 0;
    for (const [column, { text, style }] of row.entries()) {
      const isLast = column === row.length - 1;
      const left = maxWidth === undefined ? Number.POSITIVE_INFINITY : maxWidth - used;
      const shown = cut(text, left);
      const width = [...shown].length;
      const padding = isLast ? 0 : Math.min(widths[column]! - width + 2, left - width);
      pieces.push({ text: shown, style }, ' '.repeat(Math.max(0, padding)));
      used += width + Math.max(0, padding);
    }
    return pieces;
  });
}

export function printTable(screen: Screen, heads: readonly string[], rows: readonly (readonly Cell[])[]): void {
  for (const line of tableLines(heads, rows)) screen.line(...line);
}

function toPiece(cell: Cell): { readonly text: string; readonly style: Style | undefined } {
  if (cell === undefined || cell === '') return { text: '-', style: 'dim' };
  if (typeof cell === 'object') return { text: cleanLine(cell.text), style: cell.style };
  return { text: cleanLine(String(cell)), style: undefined };
}

function cut(text: string, width: number): string {
  const characters = [...text];
  if (characters.length <= width) return text;
  return width <= 1 ? '' : `${characters.slice(0, width - 1).join('')}…`;
}
