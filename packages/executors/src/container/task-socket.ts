import { chmod } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import type { ProtocolSession } from '../program/protocol-session.ts';
import { TaskChannel } from '../program/task-channel.ts';

/** The task's own protocol over a socket in the attempt's directory, which the container sees: no open file reaches into it. */
export class TaskSocket {
  readonly channel: TaskChannel;
  session: ProtocolSession | undefined;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
    const [from, to] = [new PassThrough(), new PassThrough()];
    this.channel = new TaskChannel(from, to, {
      onMessage: (message) => this.session?.take(message),
      onNonsense: (why) => this.session?.nonsense(why),
      onClosed: () => {},
    });
    this.#server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => {});
      // One at a time: what was said before anyone listened is said to the first.
      if (this.#sockets.size > 1) {
        socket.destroy();
        return;
      }
      socket.pipe(from);
      to.pipe(socket);
    });
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(this.#path, resolve);
    });
    // The user of the container may be any.
    await chmod(this.#path, 0o666);
  }

  close(): void {
    this.channel.close();
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}
