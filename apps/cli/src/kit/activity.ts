/** What code of tasks and functions a worker of the kit carries out at this moment. */
export class Activity {
  /** By what to call them in a message. */
  readonly #running = new Map<string, number>();
  /** Goes at durable functions: each holds a lease, and may rest in it while only time has to pass. */
  #drivers = 0;
  readonly #onChange: () => void;

  constructor(onChange: () => void) {
    this.#onChange = onChange;
  }

  /** Something goes on that time does not end. What it gives is called at its end. */
  begin(name: string): () => void {
    this.#running.set(name, (this.#running.get(name) ?? 0) + 1);
    this.#onChange();
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      const left = this.#running.get(name)! - 1;
      if (left === 0) this.#running.delete(name);
      else this.#running.set(name, left);
      this.#onChange();
    };
  }

  async during<T>(name: string, work: () => T | Promise<T>): Promise<T> {
    const end = this.begin(name);
    try {
      return await work();
    } finally {
      end();
    }
  }

  beginDriver(): () => void {
    this.#drivers++;
    this.#onChange();
    return () => {
      this.#drivers--;
      this.#onChange();
    };
  }

  get drivers(): number {
    return this.#drivers;
  }

  get isBusy(): boolean {
    return this.#running.size > 0;
  }

  /** task `resize`, step `charge` of order */
  describe(): string {
    return [...this.#running].map(([name, count]) => (count === 1 ? name : `${name} (${count})`)).join(', ');
  }
}
