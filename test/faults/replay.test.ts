/** Every RPC that changes something, sent again: twice at the same moment, and once more when all is done. */
import { createHash } from 'node:crypto';
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
import type { DescMethod } from '@bufbuild/protobuf';
import { MethodOptions_IdempotencyLevel } from '@bufbuild/protobuf/wkt';
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

// biome-ignore lint/suspicious/noExplicitAny: answers as JSON, of every type
type Json = any;

async function send(method: string, request: object): Promise<Json> {
  const answer = await fetch(`${stack().url}/baton.v1.${method}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(request),
    signal: AbortSignal.timeout(30_000),
  });
  return answer.json();
}

/** Times that rise with every call, and what only counts how often somebody asked. */
const RISES = [
  'expires_at',
  'renewed_at',
  'last_at',
  'used_at',
  'touched_at',
  'beat',
  'sign_at',
  'metrics',
  'registered_at',
];
/** Of the masters themselves. */
const NOT_STATE = ['masters', 'sweeps'];

/** All that the database holds, but for times that rise. */
async function stateOf(ledger: ReturnType<typeof openLedger>): Promise<Record<string, unknown[]>> {
  const tables = await ledger.sql`
    select c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'baton' and c.relkind in ('r', 'p') and not c.relispartition order by 1`;
  const state: Record<string, unknown[]> = {};
  for (const { name } of tables) {
    if (NOT_STATE.includes(name)) continue;
    const rows = await ledger.sql.unsafe(
      `select to_jsonb(t) - $1::text[] as row from baton.${name} t order by (to_jsonb(t) - $1::text[])::text`,
      [`{${RISES.join(',')}}`],
    );
    state[name] = rows.map(({ row }) => row);
  }
  return state;
}

const bytes = (text: string) => Buffer.from(text).toString('base64');
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

test('every RPC that changes something is idempotent: sent again, it changes nothing more', {
  timeout: 60_000,
}, async () => {
  const ledger = openLedger(stack().databaseUrl);
  const done = new Set<string>();
  /** Steps of runs are taken apart from the calls. */
  const atRest = () => expect.poll(async () => (await ledger.sql`select from baton.advances`).length).toBe(0);
  /** Sends it, remembers what is there, sends it twice at once and once more, and finds nothing changed. Gives the first answer. */
  const replayed = async (method: string, request: object): Promise<Json> => {
    const first = await send(method, request);
    expect(first.code, `${method}: ${first.message}`).toBeUndefined();
    await atRest();
    const before = await stateOf(ledger);
    const again = await Promise.all([send(method, request), send(method, request)]);
    again.push(await send(method, request));
    await atRest();
    expect(await stateOf(ledger), method).toEqual(before);
    // The same answer, or a word that there is nothing left to do; never a fault.
    for (const answer of again)
      expect(answer.code ?? '', `${method}: ${answer.message}`).toMatch(/^(failed_precondition|not_found|)$/);
    done.add(method);
    return first;
  };

  const { sessionId } = await replayed('MasterService/RegisterWorker', {
    name: 'w',
    instanceId: 'instance-one',
    protocolVersion: 1,
    capabilities: { slots: 10, executors: ['function'], kinds: ['work'] },
  });
  const { taskId } = await replayed('TaskService/SubmitTask', {
    task: { kind: 'work', input: { n: 1 }, idempotencyKey: 'one' },
  });
  await replayed('TaskService/SubmitTasks', {
    tasks: ['two', 'three', 'four', 'two'].map((idempotencyKey) => ({ kind: 'work', idempotencyKey })),
  });
  // The same offer again asks for nothing: its leases may be on their way.
  const offer = { number: '1', freeSlots: 2 };
  const { leases } = await replayed('MasterService/Exchange', { sessionId, number: '1', offer, waitMs: 5_000 });
  expect(leases).toHaveLength(2);
  expect(leases[0].taskId).toBe(taskId);
  const held = { taskId, epoch: 1 };
  const digest = { count: 2, xor: String(BigInt(leases[0].taskId) ^ BigInt(leases[1].taskId)) };
  await replayed('MasterService/Heartbeat', {
    sessionId,
    number: '2',
    digest,
    held: [
      { ...held, started: true, ranMs: '5' },
      { taskId: leases[1].taskId, epoch: 1 },
    ],
    heldIsComplete: true,
    metrics: { cpuPercent: 1 },
  });
  const line = { ...held, attempt: 1, stream: 'stdout', time: new Date().toISOString() };
  await replayed('MasterService/AppendLogs', {
    sessionId,
    lines: [1, 2, 3].map((sequence) => ({ ...line, sequence, text: `line ${sequence}` })),
  });
  await replayed('MasterService/AppendOutput', {
    sessionId,
    chunks: [
      { ...held, offset: '0', data: bytes('first') },
      { ...held, offset: '5', data: bytes('second') },
    ],
  });
  for (const n of [1, 2, 3]) {
    const saved = await replayed('MasterService/SaveCheckpoint', {
      sessionId,
      ...held,
      saveId: `save-number-${n}`,
      data: bytes(`state ${n}`),
      encoding: 'PAYLOAD_ENCODING_BYTES',
    });
    expect(saved.number).toBe(String(n));
  }
  await replayed('CheckpointService/DeleteCheckpoint', { taskId, number: '1' });
  await replayed('CheckpointService/PruneCheckpoints', { taskId, keepLast: 1, dropBest: true });
  await replayed('MasterService/Exchange', {
    sessionId,
    number: '3',
    results: [
      { ...held, success: { output: bytes('1'), encoding: 'PAYLOAD_ENCODING_JSON' }, ranUs: '7' },
      {
        taskId: leases[1].taskId,
        epoch: 1,
        failure: { type: 'FAILURE_TYPE_EVALUATION_ERROR', message: 'no', nonRetryable: true },
      },
    ],
  });
  await replayed('TaskService/ResendTasks', { taskIds: [leases[1].taskId] });
  const waiting = await send('TaskService/SubmitTask', { task: { kind: 'nobody-can' } });
  await replayed('TaskService/CancelTask', { taskId: waiting.taskId, reason: 'not needed' });
  const running = await send('MasterService/Exchange', {
    sessionId,
    number: '4',
    offer: { number: '2', freeSlots: 1 },
    waitMs: 5_000,
  });
  await replayed('TaskService/CancelTask', { taskId: running.leases[0].taskId, reason: 'not needed' });

  const definitionJson = JSON.stringify({
    name: 'flow',
    nodes: { a: { task: 'nobody-can' }, b: { task: 'nobody-can', needs: ['a'] } },
  });
  await replayed('WorkflowService/ApplyWorkflow', { definitionJson });
  const { runId } = await replayed('WorkflowService/StartRun', { workflowName: 'flow', idempotencyKey: 'run' });
  // Its end is a step of its own: what counts is the state after it.
  await send('WorkflowService/CancelRun', { runId, reason: 'not needed' });
  const stateOfRun = async () => (await send('WorkflowService/GetRun', { runId })).run.state;
  await expect.poll(stateOfRun).toBe('RUN_STATE_CANCELLED');
  await atRest();
  const cancelled = await stateOf(ledger);
  const late = await send('WorkflowService/CancelRun', { runId, reason: 'not needed' });
  expect(late.code).toBe('failed_precondition');
  expect(await stateOf(ledger)).toEqual(cancelled);
  done.add('WorkflowService/CancelRun');
  await replayed('WorkflowService/RetryRun', { runId });
  await replayed('WorkflowService/StartRuns', {
    runs: ['one', 'two', 'one'].map((idempotencyKey) => ({ workflowName: 'flow', idempotencyKey })),
  });

  const functions = await replayed('MasterService/RegisterWorker', {
    name: 'f',
    instanceId: 'instance-two',
    protocolVersion: 3,
    capabilities: { slots: 1, executors: ['function'], kinds: ['fn'] },
    functions: [{ id: 'fn' }],
  });
  const driven = await replayed('WorkflowService/StartRun', { workflowName: 'fn', idempotencyKey: 'driven' });
  const driver = await replayed('MasterService/Exchange', {
    sessionId: functions.sessionId,
    number: '1',
    offer: { number: '1', freeSlots: 1 },
    waitMs: 5_000,
  });
  const entry = { afterPosition: 0, attempts: 1 };
  const appended = await replayed('MasterService/AppendJournal', {
    sessionId: functions.sessionId,
    appends: [
      {
        taskId: driver.leases[0].taskId,
        epoch: 1,
        entries: [
          {
            ...entry,
            number: 1,
            kind: 'JOURNAL_KIND_STEP',
            name: 'first',
            ended: true,
            output: bytes('1'),
            encoding: 'PAYLOAD_ENCODING_JSON',
          },
          { ...entry, number: 2, kind: 'JOURNAL_KIND_SIGNAL', name: 'go' },
          { ...entry, number: 3, kind: 'JOURNAL_KIND_TASK', name: 'nobody-can', task: { kind: 'nobody-can' } },
        ],
      },
    ],
  });
  expect(appended.answers.map((answer: Json) => answer.reason ?? '')).toEqual(['']);
  await replayed('WorkflowService/SignalRun', { runId: driven.runId, name: 'go', idempotencyKey: 'signal' });
  // Resolves what can be resolved, once.
  const { entries } = await replayed('MasterService/LoadJournal', {
    sessionId: functions.sessionId,
    taskId: driver.leases[0].taskId,
    epoch: 1,
  });
  expect(entries.map((each: Json) => each.position ?? 0)).toEqual([1, 2, 0]);

  const upload = { sizeBytes: '5', sha256: sha256('bytes') };
  const { uploadId } = await send('BlobService/BeginBlob', upload);
  await replayed('BlobService/AppendBlob', { uploadId, offset: '0', data: bytes('bytes') });
  await replayed('BlobService/CommitBlob', { uploadId, sha256: sha256('bytes') });
  // Of bytes that are there already nothing is to be sent.
  await replayed('BlobService/BeginBlob', upload);

  await replayed('SystemService/SetQueue', { queue: 'default', strategy: 'fifo' });
  await replayed('SystemService/SetQueue', { queue: 'default', strategy: '' });
  await replayed('SystemService/PauseQueue', { queue: 'default' });
  await replayed('SystemService/ResumeQueue', { queue: 'default' });
  await replayed('SystemService/ResetBreaker', { worker: 'w' });
  await replayed('SystemService/DrainWorker', { name: 'w', reason: 'not needed' });
  await replayed('MasterService/Leave', { sessionId, reason: 'done' });

  const changing = services.flatMap((service) =>
    (service.methods as readonly DescMethod[])
      .filter(
        ({ methodKind, idempotency }) =>
          methodKind === 'unary' && idempotency !== MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS,
      )
      .map(({ name }) => `${service.typeName.split('.').at(-1)}/${name}`),
  );
  expect(changing.filter((name) => !done.has(name))).toEqual([]);
  await ledger[Symbol.asyncDispose]();
});
