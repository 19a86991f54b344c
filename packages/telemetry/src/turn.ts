/** Those with lines that are not written yet. One listener for all of a process's logs. */
const open = new Set<Turn>();
let listens = false;

/**
 * What is logged in one turn of the event loop is written together, at its end, after what the turn had to say to others: 16 lines
 * written one by one keep a turn's answers waiting for 0.3 ms (two writes each, and a terminal's form of it), and a master that ends a thousand
 * runs a second writes as many. A process that
 * ends writes them first; one that is killed loses those of the turn in which it was killed.
 */
export class Turn {
  readonly #writers: { readonly write: (lines: readonly string[]) => void; lines: string[] }[] = [];

  /** A destination whose lines are given to `write` together. */
  gather(write: (lines: readonly string[]) => void): { write(line: string): void } {
    const writer = { write, lines: [] as string[] };
    this.#writers.push(writer);
    return {
      write: (line) => {
        writer.lines.push(line);
        this.#begin();
      },
    };
  }

  /** Writes what there is. */
  end(): void {
    open.delete(this);
    for (const writer of this.#writers) {
      const { lines } = writer;
      if (lines.length === 0) continue;
      writer.lines = [];
      writer.write(lines);
    }
  }

  #begin(): void {
    if (open.has(this)) return;
    open.add(this);
    setImmediate(() => this.end());
    if (listens) return;
    listens = true;
    process.on('exit', () => {
      for (const turn of [...open]) turn.end();
    });
  }
}
