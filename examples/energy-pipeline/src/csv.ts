import { StepError } from './step.ts';

/**
 * Reads RFC 4180 text: quoted fields, doubled quotes, CRLF or LF, an optional byte order mark. Blank lines are left out.
 * Rows keep their own number of fields: what to do with a short one is the reader's decision.
 *
 * @throws StepError when a quote is never closed, since from there on nothing can be told apart.
 */
export function parseCsv(text: string): string[][] {
  const rows: string[][] = [];
  let row: string[] = [];
  let field = '';
  let quoted = false;
  let wasQuoted = false;
  let line = 1;
  let quoteLine = 0;

  const endField = () => {
    row.push(field);
    field = '';
    wasQuoted = false;
  };
  const endRow = () => {
    const blank = row.length === 0 && field === '' && !wasQuoted;
    endField();
    if (!blank) rows.push(row);
    row = [];
  };

  for (let i = text.charCodeAt(0) === 0xfeff ? 1 : 0; i < text.length; i++) {
    const char = text[i];
    if (char === '\n') line++;
    if (quoted) {
      if (char !== '"') field += char;
      else if (text[i + 1] === '"') {
        field += '"';
        i++;
      } else quoted = false;
    } else if (char === '"' && field === '' && !wasQuoted) {
      quoted = true;
      wasQuoted = true;
      quoteLine = line;
    } else if (char === ',') endField();
    else if (char === '\n') endRow();
    else if (char === '\r' && (text[i + 1] === '\n' || i + 1 === text.length)) continue;
    else field += char;
  }
  if (quoted) throw new StepError(`a quote opened in line ${quoteLine} is never closed`);
  endRow();
  return rows;
}

/** Writes rows with LF endings, quoting only what needs it. */
export function formatCsv(rows: Iterable<readonly string[]>): string {
  let text = '';
  for (const row of rows) {
    text += row.map((field) => (/[",\r\n]/.test(field) ? `"${field.replaceAll('"', '""')}"` : field)).join(',');
    text += '\n';
  }
  return text;
}

/** A decimal number as people and programs write it, or undefined. Not "", "0x1F", "Infinity" or "12 kW". */
export function parseNumber(text: string): number | undefined {
  if (!/^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$/.test(text)) return undefined;
  const value = Number(text);
  return Number.isFinite(value) ? value : undefined;
}
