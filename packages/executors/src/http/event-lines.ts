import type { AttemptContext } from '@baton/runtime';
import { AnswerTooLarge } from './send-request.ts';

/** What a stream of events ended with. */
export type LinesEnd = { readonly output: unknown } | { readonly error: unknown } | undefined;

/**
 * Reads an answer of `application/x-ndjson`, by which a function tells of itself while it runs: one JSON object on each line, with
 * `log` (a text), `progress` (0 to 1) and `message`, and in the end `output` or `error`. Other lines are kept as log lines.
 *
 * @param maxBytes of one line
 * @returns undefined where neither `output` nor `error` came
 */
export async function readEvents(
  body: AsyncIterable<Buffer>,
  context: Pick<AttemptContext, 'log' | 'progress'>,
  maxBytes: number,
): Promise<LinesEnd> {
  let end: LinesEnd;
  for await (const line of linesOf(body, maxBytes)) {
    if (line.trim() === '') continue;
    let event: unknown;
    try {
      event = JSON.parse(line);
    } catch {
      context.log(line);
      continue;
    }
    if (typeof event !== 'object' || event === null || Array.isArray(event)) {
      context.log(line);
      continue;
    }
    const { log, progress, message } = event as Record<string, unknown>;
    if (log !== undefined) context.log(typeof log === 'string' ? log : JSON.stringify(log));
    if (typeof progress === 'number' || typeof message === 'string') {
      context.progress(
        typeof progress === 'number' ? progress : undefined,
        typeof message === 'string' ? message : undefined,
      );
    }
    if ('output' in event) end = { output: event.output };
    else if ('error' in event) end = { error: event.error };
  }
  return end;
}

async function* linesOf(body: AsyncIterable<Buffer>, maxBytes: number): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let parts: Buffer[] = [];
  let size = 0;
  const take = (last: Buffer): string => {
    const line = decoder.decode(Buffer.concat([...parts, last]));
    parts = [];
    size = 0;
    return line;
  };
  for await (const chunk of body) {
    let from = 0;
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
      if (size + at - from > maxBytes)
        throw new AnswerTooLarge(`a line of the answer is larger than ${maxBytes} bytes`);
      yield take(chunk.subarray(from, at));
      from = at + 1;
    }
    size += chunk.byteLength - from;
    if (size > maxBytes) throw new AnswerTooLarge(`a line of the answer is larger than ${maxBytes} bytes`);
    parts.push(chunk.subarray(from));
  }
  if (size > 0) yield take(Buffer.alloc(0));
}
