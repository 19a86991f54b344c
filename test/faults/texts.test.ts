/** Text that Postgres cannot keep, and SQL, in every text field of every request. */
import {
  ArtifactService,
  BlobService,
  CheckpointService,
  EventService,
  MasterService,
  SystemService,
  TaskService,
  WorkflowService,
} from '@baton/contract';
import { useStack } from '@baton/testkit/vitest';
import type { DescField, DescMessage, DescMethod } from '@bufbuild/protobuf';
import { ScalarType } from '@bufbuild/protobuf';
import { expect, test } from 'vitest';
import { openLedger } from './ledger.ts';

const stack = useStack({ workers: 0, env: { BATON_LEASE_TTL_MS: '600000', BATON_HEARTBEAT_MS: '60000' } });
const services = [
  MasterService,
  TaskService,
  WorkflowService,
  SystemService,
  EventService,
  ArtifactService,
  BlobService,
  CheckpointService,
];
// The calls of CallStream are those of Exchange and AppendJournal, carried out by the same code.
const methods = services
  .flatMap((service) => service.methods as readonly DescMethod[])
  .filter(({ methodKind }) => methodKind !== 'bidi_streaming');

interface Said {
  readonly code?: string;
  readonly message?: string;
  readonly details?: { debug?: { reason?: string } }[];
}

type Json = { [name: string]: unknown };
interface Answer {
  readonly code: string;
  readonly reason: string;
  readonly message: string;
}

/** Sends a request as JSON and gives what became of it; a stream is ended at its first message. */
async function send({ parent, name, methodKind }: DescMethod, request: string): Promise<Answer> {
  const isUnary = methodKind === 'unary';
  const body = isUnary ? Buffer.from(request) : enveloped(request);
  const answer = await fetch(`${stack().url}/${parent.typeName}/${name}`, {
    method: 'POST',
    headers: { 'Content-Type': isUnary ? 'application/json' : 'application/connect+json' },
    body,
    signal: AbortSignal.timeout(60_000),
  });
  let said: Said & { results?: { refused?: Said }[] };
  if (isUnary) said = await answer.json();
  else {
    const reader = answer.body!.getReader();
    const { value } = await reader.read();
    await reader.cancel();
    const bytes = Buffer.from(value ?? []);
    const isEnd = bytes.length > 5 && (bytes[0]! & 2) !== 0;
    const first = isEnd ? JSON.parse(bytes.subarray(5, 5 + bytes.readUInt32BE(1)).toString()) : {};
    said = first.error ?? {};
  }
  // Of many, each is refused on its own, and the call succeeds.
  const refused = said.results?.find((each) => each.refused)?.refused;
  if (refused) return { code: refused.code ?? '', reason: '', message: refused.message ?? '' };
  const reason = said.details?.map(({ debug }) => debug?.reason).find(Boolean) ?? '';
  return { code: isUnary && answer.status === 200 ? '' : (said.code ?? ''), reason, message: said.message ?? '' };
}

function enveloped(text: string): Buffer<ArrayBuffer> {
  const bytes = Buffer.from(text);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

/** Where a text stands in a request. */
type Path = readonly (string | number)[];

/** A request as full as it can be, and where its texts are. Of alternatives, each is taken in a request of its own. */
function requestsOf(message: DescMessage, known: Json): { request: Json; texts: Path[] }[] {
  const alternatives = Math.max(1, ...message.oneofs.map(({ fields }) => fields.length));
  return Array.from({ length: alternatives }, (_, choice) => {
    const texts: Path[] = [];
    return { request: fill(message, known, choice, texts, []), texts };
  });
}

function fill(message: DescMessage, known: Json, choice: number, texts: Path[], at: Path): Json {
  const filled: Json = {};
  for (const field of message.fields) {
    const { oneof, jsonName } = field;
    if (oneof && oneof.fields[choice % oneof.fields.length] !== field) continue;
    if (at.length > 6) continue;
    const here = [...at, jsonName];
    const value = fillField(field, known, choice, texts, here);
    if (value !== undefined) filled[jsonName] = value;
  }
  return filled;
}

function fillField(field: DescField, known: Json, choice: number, texts: Path[], here: Path): unknown {
  const name = field.jsonName;
  if (name in known) {
    const value = known[name];
    if (typeof value === 'string' && field.fieldKind === 'scalar' && field.scalar === ScalarType.STRING)
      texts.push(here);
    return value;
  }
  switch (field.fieldKind) {
    case 'enum':
      return field.enum.values.find(({ number }) => number > 0)?.name;
    case 'scalar':
      return scalarOf(field.scalar, texts, here);
    case 'message':
      return messageOf(field.message, known, choice, texts, here);
    case 'list':
      if (field.listKind === 'enum') return [field.enum.values.find(({ number }) => number > 0)!.name];
      if (field.listKind === 'scalar') return [scalarOf(field.scalar, texts, [...here, 0])];
      return [messageOf(field.message, known, choice, texts, [...here, 0])].filter((each) => each !== undefined);
    case 'map':
      if (field.mapKind !== 'scalar' || field.scalar !== ScalarType.STRING) return undefined;
      texts.push([...here, 'name']);
      return { name: 'x' };
  }
}

function scalarOf(scalar: ScalarType, texts: Path[], here: Path): unknown {
  if (scalar === ScalarType.STRING) {
    texts.push(here);
    return 'x';
  }
  if (scalar === ScalarType.BOOL) return false;
  if (scalar === ScalarType.BYTES) return 'MQ==';
  return 1;
}

function messageOf(message: DescMessage, known: Json, choice: number, texts: Path[], here: Path): unknown {
  switch (message.typeName) {
    case 'google.protobuf.Duration':
      return '1s';
    case 'google.protobuf.Timestamp':
      return new Date(Date.now() - 60_000).toISOString();
    case 'google.protobuf.Value':
      return { n: 1 };
    default:
      return message.typeName.startsWith('google.') ? undefined : fill(message, known, choice, texts, here);
  }
}

/** The request with another text at this place. */
function withText(request: Json, [head, ...rest]: Path, text: string): Json {
  const copy = (Array.isArray(request) ? [...request] : { ...request }) as Json;
  const key = head as string;
  copy[key] = rest.length === 0 ? text : withText(copy[key] as Json, rest, text);
  return copy;
}

/** Values that make requests reach as deep as they can. */
async function setting(): Promise<Json> {
  const call = async (method: string, request: Json) => {
    const answer = await fetch(`${stack().url}/baton.v1.${method}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(request),
    });
    return (await answer.json()) as Json;
  };
  const { sessionId } = await call('MasterService/RegisterWorker', {
    name: 'texts',
    instanceId: 'instance-one',
    protocolVersion: 1,
    capabilities: { slots: 1, executors: ['function'], kinds: ['leased'] },
  });
  const { taskId } = await call('TaskService/SubmitTask', { task: { kind: 'leased' } });
  await call('MasterService/Exchange', { sessionId, number: '1', offer: { number: '1', freeSlots: 1 }, waitMs: 5_000 });
  const definitionJson = JSON.stringify({ name: 'w', nodes: { a: { task: 'nobody-can' } } });
  await call('WorkflowService/ApplyWorkflow', { definitionJson });
  const { runId } = await call('WorkflowService/StartRun', { workflowName: 'w' });
  const { uploadId } = await call('BlobService/BeginBlob', { sizeBytes: '1' });
  return {
    namespace: 'default',
    sessionId,
    taskId,
    taskIds: [taskId],
    runId,
    runIds: [runId],
    definitionJson,
    workflowName: 'w',
    uploadId,
    offset: '0',
    instanceId: 'instance-one',
    saveId: 'save-number-one',
    idempotencyKey: '',
    names: ['baton_workers'],
    worker: 'texts',
    epoch: '1',
    number: '2',
    waitMs: 1,
    wait: undefined,
    follow: false,
    pageToken: '',
    cursor: '',
    fromTime: undefined,
    protocolVersion: 1,
    inputJson: '1',
    slots: 1,
    executors: ['function'],
    sha256: '0'.repeat(64),
    inputBlob: undefined,
    retryOf: '',
    task: undefined,
  };
}

const TAKEN = [
  'EventService/Watch subscriptions.0.name NUL',
  ...[
    'failure.device',
    'failure.exceptionType',
    'failure.message',
    'failure.stack',
    'name',
    'task.kind',
    'task.queue',
    // Not read of a spec.
    'task.spec.idempotencyKey',
    'task.spec.labels.name',
    'task.spec.tags.0',
    'task.tags.0',
  ].map((field) => `MasterService/AppendJournal appends.0.entries.0.${field} NUL`),
  'MasterService/AppendJournal namespace NUL',
  'MasterService/AppendLogs lines.0.stream NUL',
  'MasterService/AppendLogs lines.0.text NUL',
  'MasterService/AppendLogs namespace NUL',
  'MasterService/AppendOutput namespace NUL',
  'MasterService/Exchange namespace NUL',
  // Of an offer: compared with what there is, in memory.
  ...['devices.0.uuid', 'free.gpuModel', 'nextDevices.0', 'warm.0'].map(
    (field) => `MasterService/Exchange offer.${field} NUL`,
  ),
  'MasterService/Exchange results.0.success.blob.sha256 NUL',
  // Kept without what text in Postgres cannot be.
  ...[
    'deviceSource',
    ...['code', 'device', 'message'].map((field) => `gates.0.${field}`),
    ...['migParentUuid', 'model', 'reason', 'uuid', 'xids.0.kind', 'xids.0.meaning'].map((field) => `gpus.0.${field}`),
    ...['code', 'device', 'message'].map((field) => `issues.0.${field}`),
  ].map((field) => `MasterService/Heartbeat health.${field} NUL`),
  'MasterService/Heartbeat namespace NUL',
  'MasterService/Heartbeat signs.0.message NUL',
  'MasterService/Leave namespace NUL',
  'SystemService/ResetBreaker device NUL',
  'WorkflowService/CancelRun reason NUL',
  'WorkflowService/ValidateWorkflow definitionJson NUL',
];

/** RPCs that end work, so that the others would find nothing. */
const LAST = ['Leave', 'CancelTask', 'CancelRun', 'DrainWorker'];

test('NUL, lone surrogates and SQL in every text field of every RPC: refused or kept as they are, never a fault', {
  timeout: 300_000,
}, async () => {
  const known = await setting();
  delete known.task;
  const ledger = openLedger(stack().databaseUrl);
  const faults: string[] = [];
  const kept = new Set<string>();
  /** Requests that are refused as they are: their texts come no further than the door. */
  const shallow = new Set<string>();
  let sent = 0;
  const ordered = [...methods].sort((a, b) => LAST.indexOf(a.name) - LAST.indexOf(b.name));
  for (const method of ordered) {
    const isLast = LAST.includes(method.name);
    for (const { request, texts } of requestsOf(method.input, known)) {
      const base = await send(method, JSON.stringify(request));
      if (base.code === 'invalid_argument') shallow.add(method.name);
      for (const path of texts) {
        const where = `${method.parent.name}/${method.name} ${path.join('.')}`;
        const bad = { NUL: 'a\\u0000b', surrogate: 'a\\ud800b', low: '\\udc00' };
        const isFault = ({ code }: Answer) => ['internal', 'unknown', 'data_loss'].includes(code);
        await Promise.all(
          Object.entries(bad).map(async ([what, escaped]) => {
            const text = JSON.stringify(withText(request, path, '\uE000')).replaceAll('\uE000', escaped);
            const answer = await send(method, text);
            if (isFault(answer)) faults.push(`${where} ${what}: ${answer.message}`);
            // A run that the request without such a text has cancelled may have ended by now.
            if (answer.code === '' || answer.reason === 'RUN_ENDED') kept.add(`${where} ${what}`);
            sent++;
          }),
        );
        if (isLast) continue;
        await Promise.all(
          [`'; drop table baton.tasks; --`, `x' or '1'='1`, `%_\\`, `{"a":1}`, `$1`, `{a,b}`].map(async (sql) => {
            const answer = await send(method, JSON.stringify(withText(request, path, sql)));
            if (isFault(answer)) faults.push(`${where} ${sql}: ${answer.message}`);
            sent++;
          }),
        );
      }
    }
  }
  expect(faults).toEqual([]);
  // Taken with such a text: what is made clean (words for people), refused on its own within an answer, or kept nowhere.
  expect([...kept].sort()).toEqual(TAKEN);
  expect(sent).toBeGreaterThan(500);
  const [tables] = await ledger.sql`select count(*)::int as tasks from baton.tasks`;
  expect(tables!.tasks).toBeGreaterThan(0);
  expect((await fetch(`${stack().url}/healthz`)).status).toBe(200);
  await ledger[Symbol.asyncDispose]();
});
