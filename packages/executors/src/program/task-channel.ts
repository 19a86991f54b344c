import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import type { FromTask, ToTask } from './task-messages.ts';

/** Of one message; what is larger goes through a file. */
const maxLineLength = 4 * 1024 * 1024;

export interface ChannelListener {
  onMessage(message: FromTask): void;
  /** A line that is no message; it was passed over. */
  onNonsense(why: string): void;
  /** The task's end of it is closed. */
  onClosed(): void;
}

/**
 * Messages as lines of JSON, each way. Two streams, and not one that goes both ways: a write to a task that has gone would destroy it, and
 * with it what the task had said before.
 */
export class TaskChannel {
  readonly #from: Readable;
  readonly #to: Writable;
  readonly #listener: ChannelListener;
  readonly #decoder = new StringDecoder('utf8');
  #parts: string[] = [];
  #length = 0;
  #tooLong = false;
  #closed = false;

  constructor(from: Readable, to: Writable, listener: ChannelListener) {
    this.#from = from;
    this.#to = to;
    this.#listener = listener;
    from.on('data', (chunk: Buffer) => this.#take(this.#decoder.write(chunk)));
    // A task that goes away while it is written to is not the worker's mistake.
    to.on('error', () => {});
    from.on('error', () => this.#end());
    from.on('end', () => this.#end());
    from.on('close', () => this.#end());
  }

  send(message: ToTask): void {
    if (!this.#closed && this.#to.writable) {
      this.#to.write(`${JSON.stringify(message)}\n`);
    }
  }

  /** Resolves when everything that has come so far was handed on; the task has ended. */
  async drained(timeoutMs: number): Promise<void> {
    if (!this.#closed) {
      const timer = AbortSignal.timeout(timeoutMs);
      await once(this.#from, 'end', { signal: timer }).catch(() => {});
    }
  }

  pause(): void {
    this.#from.pause();
  }

  resume(): void {
    this.#from.resume();
  }

  close(): void {
    this.#from.destroy();
    this.#to.destroy();
  }

  #end(): void {
    if (!this.#closed) {
      this.#closed = true;
      this.#listener.onClosed();
    }
  }

  #take(text: string): void {
    let from = 0;
    for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', from)) {
      this.#add(text.slice(from, at));
      const line = this.#parts.join('');
      const tooLong = this.#tooLong;
      this.#parts = [];
      this.#length = 0;
      this.#tooLong = false;
      if (tooLong) {
        this.#listener.onNonsense(`a message longer than ${maxLineLength} characters; name a file instead`);
      } else if (line.trim() !== '') {
        this.#parse(line);
      }
      from = at + 1;
    }
    this.#add(text.slice(from));
  }

  #add(text: string): void {
    if (text === '' || this.#tooLong) {
      return;
    }
    this.#length += text.length;
    if (this.#length > maxLineLength) {
      this.#tooLong = true;
      this.#parts = [];
    } else {
      this.#parts.push(text);
    }
  }

  #parse(line: string): void {
    let message: unknown;
    try {
      message = JSON.parse(line);
    } catch {
      this.#listener.onNonsense(`not JSON: ${line.slice(0, 200)}`);
      return;
    }
    if (typeof message !== 'object' || message === null || !('type' in message) || typeof message.type !== 'string') {
      this.#listener.onNonsense(`no object with a "type": ${line.slice(0, 200)}`);
      return;
    }
    this.#listener.onMessage(message as FromTask);
  }
}
