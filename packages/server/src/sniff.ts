import type { Socket } from 'node:net';

// An HTTP/2 connection with prior knowledge opens with "PRI * HTTP/2.0"; HTTP/1 has no method of that name.
const preface = Buffer.from('PRI ', 'latin1');

export interface SniffTargets {
  /** Called once, synchronously, with the socket paused and every byte read so far put back. */
  onHttp1: (socket: Socket) => void;
  onHttp2: (socket: Socket) => void;
  /** A socket that has not shown its protocol after this time is destroyed. */
  silenceTimeoutMs: number;
}

/**
 * Finds out whether a new connection speaks HTTP/1 or HTTP/2, and hands it over. It waits for as many bytes as it takes
 * to tell (1 to 4): a preface may arrive one byte at a time.
 */
export function sniffProtocol(socket: Socket, targets: SniffTargets): void {
  let head: Buffer | undefined;
  const silence = setTimeout(() => socket.destroy(), targets.silenceTimeoutMs);

  const stop = () => {
    clearTimeout(silence);
    socket.off('data', onData);
    socket.off('end', onGone);
    socket.off('close', onGone);
    socket.off('error', onGone);
  };
  const onGone = () => {
    stop();
    socket.on('error', ignoreError);
    socket.destroy();
  };
  const onData = (chunk: Buffer) => {
    head = head === undefined ? chunk : Buffer.concat([head, chunk]);
    const seen = Math.min(head.length, preface.length);
    const isPreface = head.compare(preface, 0, seen, 0, seen) === 0;
    if (isPreface && seen < preface.length) {
      return;
    }
    stop();
    socket.pause();
    socket.unshift(head);
    if (isPreface) {
      targets.onHttp2(socket);
    } else {
      targets.onHttp1(socket);
    }
    // Not now: the new owner attaches its listeners in this tick, and must not miss what was put back.
    process.nextTick(() => socket.resume());
  };

  socket.on('data', onData);
  socket.on('end', onGone);
  socket.on('close', onGone);
  socket.on('error', onGone);
}

function ignoreError(): void {
  // The peer is gone and nothing was begun for it.
}
