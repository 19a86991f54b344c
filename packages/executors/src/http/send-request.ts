import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { Readable } from 'node:stream';
import { createBrotliDecompress, createGunzip, createInflate } from 'node:zlib';
import type { AddressRules } from './address-rules.ts';

export interface HttpRequest {
  readonly url: URL;
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Of secrets: not sent to another origin than the first. */
  readonly secretHeaders: Readonly<Record<string, string>>;
  readonly body: Uint8Array | undefined;
}

export interface HttpAnswer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  /** Decompressed. */
  readonly body: Readable;
  /** That answered: after redirects another than was asked. */
  readonly url: URL;
}

/** More redirects than are followed, or one that leads nowhere. */
export class RedirectRefused extends Error {
  override readonly name = 'RedirectRefused';
}

/** The body is larger than was asked for. */
export class AnswerTooLarge extends Error {
  override readonly name = 'AnswerTooLarge';
}

export interface HttpConnections {
  send(request: HttpRequest, options: { signal: AbortSignal; maxRedirects: number }): Promise<HttpAnswer>;
  close(): void;
}

/** Connections that are kept and shared, each made to an address that the rules allow. No proxy of the environment is used. */
export function httpConnections(rules: AddressRules): HttpConnections {
  const agents = {
    'http:': new HttpAgent({ keepAlive: true, maxFreeSockets: 32 }),
    'https:': new HttpsAgent({ keepAlive: true, maxFreeSockets: 32 }),
  };

  const once = ({ url, method, headers, body }: HttpRequest, signal: AbortSignal): Promise<IncomingMessage> => {
    rules.checkUrl(url);
    const isHttps = url.protocol === 'https:';
    return new Promise((resolve, reject) => {
      const sent = (isHttps ? httpsRequest : httpRequest)(
        url,
        {
          method,
          headers: {
            ...headers,
            'accept-encoding': 'gzip, deflate, br',
            ...(body !== undefined && { 'content-length': String(body.byteLength) }),
          },
          agent: agents[url.protocol as 'http:' | 'https:'],
          // A kept connection was looked at when it was made.
          lookup: rules.lookupFor(url),
          signal,
          // Much less than the task's own time would be: headers that make no sense are found out by the parser.
          maxHeaderSize: 64 * 1024,
        },
        resolve,
      );
      sent.on('error', (error: NodeJS.ErrnoException) => {
        // A server may close a kept connection just when the next request comes: most likely that one was never read. Where it was,
        // this is as if the attempt had been made again, and the request carries its Idempotency-Key.
        if (sent.reusedSocket && error.code === 'ECONNRESET' && !signal.aborted) {
          resolve(once({ url, method, headers, secretHeaders: {}, body }, signal));
        } else {
          reject(error);
        }
      });
      sent.end(body);
    });
  };

  return {
    async send(first, { signal, maxRedirects }) {
      let request: HttpRequest = { ...first, headers: { ...first.headers, ...first.secretHeaders } };
      for (let left = maxRedirects; ; left--) {
        const answer = await once(request, signal);
        const status = answer.statusCode ?? 0;
        const { location } = answer.headers;
        if (![301, 302, 303, 307, 308].includes(status) || location === undefined || maxRedirects === 0) {
          return { status, headers: answer.headers, body: decompressed(answer), url: request.url };
        }
        answer.resume();
        if (left === 0) throw new RedirectRefused(`more than ${maxRedirects} redirects; the last led to ${location}`);
        if (!URL.canParse(location, request.url))
          throw new RedirectRefused(`a redirect to ${location}, which is no URL`);
        request = redirected(request, new URL(location, request.url), status, first);
      }
    },
    close() {
      for (const agent of Object.values(agents)) agent.destroy();
    },
  };
}

/** What is asked next. Nothing that was meant for one origin goes to another. */
function redirected(request: HttpRequest, url: URL, status: number, first: HttpRequest): HttpRequest {
  const keepsMethod = status === 307 || status === 308 || (request.method !== 'POST' && status !== 303);
  const headers = { ...request.headers };
  if (url.origin !== first.url.origin) {
    const private_ = ['authorization', 'cookie', ...Object.keys(first.secretHeaders).map((name) => name.toLowerCase())];
    for (const name of Object.keys(headers)) if (private_.includes(name.toLowerCase())) delete headers[name];
  }
  if (keepsMethod) return { ...request, url, headers };
  for (const name of Object.keys(headers)) if (/^content-/i.test(name)) delete headers[name];
  return { ...request, url, headers, method: 'GET', body: undefined };
}

function decompressed(answer: IncomingMessage): Readable {
  const decoder = decoderOf(answer.headers['content-encoding']);
  if (decoder === undefined) return answer;
  answer.on('error', (error) => decoder.destroy(error));
  // An answer that is cut must not look like one that is over.
  answer.on('aborted', () => decoder.destroy(Object.assign(new Error('aborted'), { code: 'ECONNRESET' })));
  return answer.pipe(decoder);
}

function decoderOf(encoding: string | undefined) {
  switch (encoding?.trim().toLowerCase()) {
    case 'gzip':
    case 'x-gzip':
      return createGunzip();
    case 'deflate':
      return createInflate();
    case 'br':
      return createBrotliDecompress();
    default:
      return undefined;
  }
}

/** The whole body; throws `AnswerTooLarge` as soon as it is known to be. */
export async function readBody(body: Readable, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    size += chunk.byteLength;
    if (size > maxBytes) {
      body.destroy();
      throw new AnswerTooLarge(`the answer is larger than ${maxBytes} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, size);
}
