import type { WriteStream } from 'node:tty';
import { cleanJson, cleanLine, cleanLines } from './clean.ts';
import { terminalText } from './terminal-text.ts';

/** Where output goes: a stream, and what it is if it is a terminal. */
export interface OutputStream {
  /** `done` is called when there is room for more. */
  write(data: string | Uint8Array, done?: () => void): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
  getColorDepth?: WriteStream['getColorDepth'];
}

export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';

const STYLE_CODES: Readonly<Record<Style, readonly [number, number]>> = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  cyan: [36, 39],
};

/** A piece of a line. Plain text has no style; both are cleaned before they are written. */
export type Piece = string | { readonly text: string; readonly style: Style | undefined };

export interface ScreenOptions {
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  /** NO_COLOR is set. */
  readonly noColor: boolean;
  /** TERM is `dumb`: it cannot move its cursor. */
  readonly isDumb?: boolean;
}

/** All that `baton` writes goes through here: data to stdout, everything else to stderr, all of it cleaned. */
export class Screen {
  readonly #stdout: OutputStream;
  readonly #stderr: OutputStream;
  readonly #noColor: boolean;
  readonly #isDumb: boolean;
  readonly #decoder = terminalText();

  constructor(options: ScreenOptions) {
    this.#stdout = options.stdout;
    this.#stderr = options.stderr;
    this.#noColor = options.noColor;
    this.#isDumb = options.isDumb ?? false;
  }

  /** Whether stdout is a terminal whose cursor can be moved. */
  get isLive(): boolean {
    return this.#stdout.isTTY === true && !this.#isDumb;
  }

  /** A terminal that does not know its size says 0. */
  get columns(): number {
    return this.#stdout.columns || 80;
  }

  get rows(): number {
    return this.#stdout.rows || 24;
  }

  /** One line of data. */
  line(...pieces: Piece[]): void {
    this.#stdout.write(`${this.render(pieces)}\n`);
  }

  /** A text of data as it is, line by line. */
  text(text: string): void {
    for (const line of cleanLines(text)) this.#stdout.write(`${line}\n`);
  }

  /** One JSON value, for people and programs. */
  json(value: unknown): void {
    this.#stdout.write(`${cleanJson(value, 2)}\n`);
  }

  /** One JSON value on one line: a member of a stream. */
  jsonLine(value: unknown): void {
    this.#stdout.write(`${cleanJson(value)}\n`);
  }

  /** Bytes of data as they are; resolves when there is room for more. A terminal gets them as harmless text. */
  bytes(data: Uint8Array): Promise<void> {
    const shown = this.#stdout.isTTY === true ? this.#decoder(data) : data;
    return new Promise((resolve) => this.#stdout.write(shown, () => resolve()));
  }

  /** What is said besides the data, on stderr. */
  note(...pieces: Piece[]): void {
    this.#stderr.write(`${this.#renderFor(this.#stderr, pieces)}\n`);
  }

  /** Several lines on stderr. */
  noteText(text: string, style?: Style): void {
    for (const line of cleanLines(text)) this.note({ text: line, style });
  }

  /** Pieces as they are written to stdout, coloured where that is wanted and seen. */
  render(pieces: readonly Piece[]): string {
    return this.#renderFor(this.#stdout, pieces);
  }

  /** Writes what `render` made, and cursor movements, to a live stdout. */
  writeRendered(text: string): void {
    this.#stdout.write(text);
  }

  #renderFor(stream: OutputStream, pieces: readonly Piece[]): string {
    const hasColor = !this.#noColor && !this.#isDumb && stream.isTTY === true;
    return pieces
      .map((piece) => {
        if (typeof piece === 'string') return cleanLine(piece);
        const text = cleanLine(piece.text);
        if (!hasColor || piece.style === undefined) return text;
        const [open, close] = STYLE_CODES[piece.style];
        return `\u001b[${open}m${text}\u001b[${close}m`;
      })
      .join('');
  }
}
