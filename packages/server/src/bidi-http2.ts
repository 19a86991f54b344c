import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import type { Message } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { parseTimeout } from '@connectrpc/connect/protocol-grpc';
import { answersOn, callOn, canceled, ignore } from './grpc-answers.ts';
import { FrameReader } from './grpc-frames.ts';
import type { StreamRpc } from './stream-rpc.ts';

export interface BidiOptions {
  compressMinBytes: number;
  maxMessageBytes: number;
}

/** So many messages that nobody has taken yet, and no more is read. */
const maxUntaken = 64;

/**
 * A call of gRPC with many questions and many answers, on the stream itself: what Connect has between it and the handler (Node's request
 * and response, and a chain of generators for each message) costs more than most messages do.
 *
 * @returns false if it is another's: of an encoding or a time-out that this knows nothing of
 */
export function serveBidiStream(
  rpc: StreamRpc,
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  { compressMinBytes, maxMessageBytes }: BidiOptions,
): boolean {
  const encoding = headers['grpc-encoding'] ?? 'identity';
  const timeout = parseTimeout((headers['grpc-timeout'] as string | undefined) ?? null, Number.MAX_SAFE_INTEGER);
  if (timeout.error !== undefined || (encoding !== 'identity' && encoding !== 'gzip')) return false;
  const inputs = new Inputs(
    () => stream.pause(),
    () => stream.resume(),
  );
  const frames = new FrameReader(
    maxMessageBytes,
    (bytes) => {
      const message = rpc.decode(bytes);
      if (message === undefined) throw new ConnectError('the message cannot be read', Code.InvalidArgument);
      inputs.push(message);
    },
    (error) => inputs.end(error),
  );
  stream.on('error', ignore);
  stream.on('data', (chunk: Buffer) => frames.push(chunk));
  stream.on('end', () => frames.end(() => inputs.end(undefined)));
  stream.on('close', () => inputs.end(canceled()));
  void rpc.run(inputs, callOn(stream, headers, timeout.timeoutMs), answersOn(stream, headers, compressMinBytes));
  return true;
}

/** What has come, in its order, until it is taken. */
class Inputs implements AsyncIterableIterator<Message> {
  readonly #pause: () => void;
  readonly #resume: () => void;
  readonly #untaken: Message[] = [];
  readonly #takers: PromiseWithResolvers<IteratorResult<Message>>[] = [];
  #end: { readonly error: ConnectError | undefined } | undefined;
  #isPaused = false;

  constructor(pause: () => void, resume: () => void) {
    this.#pause = pause;
    this.#resume = resume;
  }

  push(message: Message): void {
    if (this.#end !== undefined) return;
    const taker = this.#takers.shift();
    if (taker !== undefined) taker.resolve({ done: false, value: message });
    else if (this.#untaken.push(message) >= maxUntaken && !this.#isPaused) {
      this.#isPaused = true;
      this.#pause();
    }
  }

  /** No more comes; what has come is still there. */
  end(error: ConnectError | undefined): void {
    if (this.#end !== undefined) return;
    this.#end = { error };
    for (const taker of this.#takers.splice(0)) {
      if (error === undefined) taker.resolve({ done: true, value: undefined });
      else taker.reject(error);
    }
  }

  async next(): Promise<IteratorResult<Message>> {
    const message = this.#untaken.shift();
    if (message !== undefined) {
      if (this.#isPaused && this.#untaken.length === 0) {
        this.#isPaused = false;
        this.#resume();
      }
      return { done: false, value: message };
    }
    if (this.#end?.error !== undefined) throw this.#end.error;
    if (this.#end !== undefined) return { done: true, value: undefined };
    const taker = Promise.withResolvers<IteratorResult<Message>>();
    this.#takers.push(taker);
    return taker.promise;
  }

  async return(): Promise<IteratorResult<Message>> {
    this.#untaken.length = 0;
    this.end(undefined);
    if (this.#isPaused) this.#resume();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}
