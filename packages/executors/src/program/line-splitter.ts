import { StringDecoder } from 'node:string_decoder';

/** Longer lines come in pieces. */
const pieceLength = 16 * 1024;

/**
 * Makes lines of what a program prints, in bounded memory: bytes that are no UTF-8 become U+FFFD, a line without an end comes in
 * pieces, and of what was overwritten by a carriage return, as progress bars do, only the last state is a line.
 */
export class LineSplitter {
  readonly #decoder = new StringDecoder('utf8');
  readonly #onLine: (line: string) => void;
  #rest = '';

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine;
  }

  write(chunk: Buffer): void {
    this.#take(this.#decoder.write(chunk));
  }

  /** Whether there is a line that has no end yet. */
  get isPending(): boolean {
    return this.#rest !== '';
  }

  /** What has no end yet is a line. */
  flush(): void {
    if (this.#rest !== '') {
      const rest = this.#rest;
      this.#rest = '';
      this.#emit(rest);
    }
  }

  end(): void {
    this.#take(this.#decoder.end());
    this.flush();
  }

  #take(text: string): void {
    let from = 0;
    for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', from)) {
      const line = this.#rest + text.slice(from, at);
      this.#rest = '';
      this.#emit(line);
      from = at + 1;
    }
    // `slice` of a long text would keep all of it.
    this.#rest = from === 0 ? this.#rest + text : Buffer.from(text.slice(from)).toString();
    if (this.#rest.length > pieceLength) {
      const start = this.#rest.lastIndexOf('\r', this.#rest.length - 2) + 1;
      this.#rest = this.#rest.slice(start);
      while (this.#rest.length > pieceLength) {
        this.#onLine(this.#rest.slice(0, pieceLength));
        this.#rest = this.#rest.slice(pieceLength);
      }
    }
  }

  #emit(line: string): void {
    const text = line.endsWith('\r') ? line.slice(0, -1) : line;
    const shown = text.slice(text.lastIndexOf('\r') + 1);
    for (let from = 0; from === 0 || from < shown.length; from += pieceLength) {
      this.#onLine(shown.slice(from, from + pieceLength));
    }
  }
}
