import { setTimeout as pause } from 'node:timers/promises';
import { FailureType, type HttpExecutor, type Lease, PayloadEncoding } from '@baton/contract';
import type { AttemptContext, Executor, FailureReport, Outcome } from '@baton/runtime';
import { addressRules } from './address-rules.ts';
import { readEvents } from './event-lines.ts';
import { failureOfAnswer, failureOfRequest, saidOf } from './http-failure.ts';
import { type HttpAnswer, type HttpConnections, type HttpRequest, httpConnections, readBody } from './send-request.ts';

export interface HttpExecutorOptions {
  /** Where requests may go; see `addressRules`. Default: public addresses. */
  readonly allow?: readonly string[];
}

const DEFAULT_MAX_BYTES = 2 * 1024 * 1024;
/** Larger outputs travel as blobs. */
const INLINE_BYTES = 2 * 1024 * 1024;
const encoder = new TextEncoder();
const nothing = encoder.encode('null');

/** The task cannot be sent as it stands; a retry would find it just so. */
class RequestRefused extends Error {
  override readonly name = 'RequestRefused';
}

/**
 * Carries tasks out by requests to functions behind URLs: the input is the body, the answer's body the output. Where requests may go
 * is the worker's to say. Each request tells the task, its attempt and epoch, and an `Idempotency-Key` that is the task's id: the
 * same in each attempt. An answer is a success with a status of 200 to 299; what else it may be is in `failureOfAnswer`.
 *
 * @throws AddressRuleError
 */
export function httpExecutor({ allow = ['public'] }: HttpExecutorOptions = {}): Executor {
  const connections = httpConnections(addressRules(allow));

  return {
    type: 'http',
    async start(lease, context) {
      if (lease.executor.case !== 'http') {
        return failure({ type: FailureType.UNKNOWN, message: 'the lease names no URL' });
      }
      const settings = lease.executor.value;
      let url: URL | undefined;
      try {
        url = new URL(settings.url);
        const request = requestOf(url, settings, lease, context);
        const options = { signal: context.signal, maxRedirects: settings.maxRedirects };
        const answer = await connections.send(request, options);
        return await outcomeOf(await polled(connections, answer, request, settings, context), settings, context);
      } catch (error) {
        if (context.signal.aborted) return { kind: 'cancelled' };
        if (error instanceof RequestRefused || url === undefined) {
          const message = error instanceof Error ? error.message : String(error);
          return failure({ type: FailureType.EVALUATION_ERROR, message, nonRetryable: true });
        }
        return failure(failureOfRequest(error, url));
      }
    },
    close: () => connections.close(),
  };
}

/** Waits for a function that has taken the task over and is to be asked for its answer: 202 with a `Location`. */
async function polled(
  connections: HttpConnections,
  first: HttpAnswer,
  request: HttpRequest,
  { pollIntervalMs, maxRedirects }: HttpExecutor,
  { signal, log }: AttemptContext,
): Promise<HttpAnswer> {
  let answer = first;
  while (answer.status === 202 && pollIntervalMs > 0) {
    const { location } = answer.headers;
    if (location === undefined || !URL.canParse(location, answer.url)) {
      throw new RequestRefused('the function answered 202 without a Location to ask again');
    }
    const url = new URL(location, answer.url);
    answer.body.resume();
    log(`taken over; asking ${url.origin}${url.pathname} again`);
    await pause(pollIntervalMs, undefined, { signal });
    const isSameOrigin = url.origin === request.url.origin;
    const { 'content-type': _, ...headers } = request.headers;
    answer = await connections.send(
      { url, method: 'GET', headers, secretHeaders: isSameOrigin ? request.secretHeaders : {}, body: undefined },
      { signal, maxRedirects },
    );
  }
  return answer;
}

async function outcomeOf(answer: HttpAnswer, settings: HttpExecutor, context: AttemptContext): Promise<Outcome> {
  const { status, headers, body, url } = answer;
  const type = (headers['content-type'] ?? '').split(';')[0]!.trim().toLowerCase();
  const maxBytes = Number(settings.maxResponseBytes) || DEFAULT_MAX_BYTES;
  if (status < 200 || status > 299) {
    const bytes = await readBody(body, maxBytes);
    const refused = { status, url, retryAfter: headers['retry-after'], text: bytes.toString('utf8') };
    return failure(failureOfAnswer(refused, settings.permanentStatuses, Date.now()));
  }
  if (type === 'application/x-ndjson') {
    const end = await readEvents(body, context, maxBytes);
    if (end === undefined) {
      const message = `${url.origin}${url.pathname} ended its stream without an output or an error`;
      return failure({ type: FailureType.EVALUATION_ERROR, message });
    }
    if ('error' in end) {
      const text = JSON.stringify({ error: end.error });
      const said = saidOf(text);
      const report = failureOfAnswer({ status: 500, url, retryAfter: undefined, text }, [], Date.now());
      return failure({ ...report, message: said.message ?? report.message });
    }
    return success(encoder.encode(JSON.stringify(end.output ?? null)), PayloadEncoding.JSON, context);
  }
  const bytes = await readBody(body, maxBytes);
  if (bytes.byteLength === 0) {
    return success(nothing, PayloadEncoding.JSON, context);
  }
  if (type === 'application/json' || type.endsWith('+json')) {
    try {
      JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      const message = `${url.origin}${url.pathname} says that its answer is JSON, and it is not: ${why}`;
      return failure({ type: FailureType.EVALUATION_ERROR, message });
    }
    return success(bytes, PayloadEncoding.JSON, context);
  }
  if (type.startsWith('text/')) {
    return success(encoder.encode(JSON.stringify(bytes.toString('utf8'))), PayloadEncoding.JSON, context);
  }
  return success(bytes, PayloadEncoding.BYTES, context);
}

async function success(output: Uint8Array, encoding: PayloadEncoding, context: AttemptContext): Promise<Outcome> {
  if (output.byteLength <= INLINE_BYTES) return { kind: 'success', output, encoding };
  const { sha256, sizeBytes } = await context.blob(output, {
    encoding: encoding === PayloadEncoding.JSON ? 'json' : 'bytes',
  });
  return { kind: 'success', output: new Uint8Array(), encoding, blob: { sha256, sizeBytes } };
}

/** Headers that say how the message travels are the connection's own. */
const OWN_HEADERS = new Set([
  'host',
  'connection',
  'content-length',
  'transfer-encoding',
  'upgrade',
  'te',
  'trailer',
  'expect',
]);

function requestOf(
  url: URL,
  settings: HttpExecutor,
  lease: Lease,
  context: Pick<AttemptContext, 'variable'>,
): HttpRequest {
  const method = settings.method || 'POST';
  const wrong: string[] = [];
  const secretHeaders: Record<string, string> = {};
  for (const name of [...Object.keys(settings.headers), ...Object.keys(settings.secretHeaders)]) {
    if (OWN_HEADERS.has(name.toLowerCase()) || /^baton-/i.test(name)) wrong.push(`header ${name} is not to be set`);
  }
  for (const [name, variable] of Object.entries(settings.secretHeaders)) {
    const value = context.variable(variable);
    if (value === undefined)
      wrong.push(`header ${name}: this worker hands on no variable ${variable} (BATON_TASK_ENV)`);
    // The value itself must not be shown.
    else if (/[^\t\x20-\x7e]/.test(value)) wrong.push(`header ${name}: the value of ${variable} cannot be sent`);
    else secretHeaders[name] = value;
  }
  const hasBody = method !== 'GET' && method !== 'DELETE';
  const target = new URL(url);
  let body: Uint8Array | undefined;
  let type = lease.encoding === PayloadEncoding.BYTES ? 'application/octet-stream' : 'application/json';
  if (hasBody && settings.body === 'envelope') {
    body = envelopeOf(lease);
    type = 'application/json';
  } else if (hasBody) {
    body = lease.input.byteLength > 0 || lease.encoding === PayloadEncoding.BYTES ? lease.input : nothing;
  } else {
    const problem = asQuery(lease, target);
    if (problem !== undefined) wrong.push(problem);
  }
  if (wrong.length > 0) throw new RequestRefused(`the request cannot be sent: ${wrong.join('; ')}`);
  return {
    url: target,
    method,
    headers: {
      accept: 'application/json, application/x-ndjson, */*;q=0.5',
      ...(body !== undefined && { 'content-type': type }),
      'user-agent': 'baton',
      'idempotency-key': lease.taskId,
      ...lowerCased(settings.headers),
      'baton-task-id': lease.taskId,
      'baton-attempt': String(lease.attempt),
      'baton-epoch': String(lease.epoch),
      ...(lease.runId !== '' && { 'baton-run-id': lease.runId, 'baton-node-id': encodeURIComponent(lease.nodeId) }),
    },
    secretHeaders,
    body,
  };
}

/** The input as the query of a request without a body: an object of plain values. */
function asQuery({ input, encoding }: Lease, url: URL): string | undefined {
  if (input.byteLength === 0) return undefined;
  const value: unknown = encoding === PayloadEncoding.BYTES ? undefined : JSON.parse(new TextDecoder().decode(input));
  if (value === null) return undefined;
  const isPlain = typeof value === 'object' && !Array.isArray(value);
  if (!isPlain || Object.values(value).some((each) => typeof each === 'object' && each !== null)) {
    return 'the input of a GET or DELETE becomes its query: an object of texts, numbers and booleans';
  }
  for (const [name, each] of Object.entries(value)) if (each !== null) url.searchParams.set(name, String(each));
  return undefined;
}

function envelopeOf(lease: Lease): Uint8Array {
  const isBytes = lease.encoding === PayloadEncoding.BYTES;
  const text = new TextDecoder().decode(lease.input);
  const input = isBytes
    ? { input_base64: Buffer.from(lease.input).toString('base64') }
    : { input: lease.input.byteLength === 0 ? null : (JSON.parse(text) as unknown) };
  return encoder.encode(
    JSON.stringify({
      ...input,
      task: {
        id: lease.taskId,
        kind: lease.kind,
        attempt: lease.attempt,
        max_attempts: lease.maxAttempts,
        epoch: lease.epoch,
        ...(lease.runId !== '' && { run_id: lease.runId, node_id: lease.nodeId }),
      },
    }),
  );
}

function lowerCased(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}

function failure(report: FailureReport): Outcome {
  return { kind: 'failure', failure: report };
}
