import type { Piece, Screen } from './screen.ts';

/** A block of lines at the foot of a terminal that is drawn again in place. Only for a live screen. */
export class LiveBlock {
  readonly #screen: Screen;
  #height = 0;

  constructor(screen: Screen) {
    this.#screen = screen;
  }

  draw(lines: readonly (readonly Piece[])[]): void {
    const up = this.#height === 0 ? '' : `\u001b[${this.#height}A`;
    const body = lines.map((line) => `\u001b[2K${this.#screen.render(line)}\n`).join('');
    // What the block before had more of is cleared below.
    // A line that is wider than the terminal must not become two: then going up would end too low.
    this.#screen.writeRendered(`${up}\u001b[?7l${body}\u001b[?7h\u001b[0J`);
    this.#height = lines.length;
  }
}
