import { rm } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { RunView, TaskDetails } from '@baton/client';
import { WorkerService } from '@baton/contract';
import { createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { EXIT } from '../exit.ts';
import type { StackWorker } from '../up/stack.ts';
import { compareOutputs, type FileComparison } from './compare-outputs.ts';
import { type DemoStack, withDemoStack } from './demo-stack.ts';
import { type EnergyServices, energyDefinition, startEnergy } from './energy.ts';
import type { DemoOptions } from './options.ts';
import { nodeReport, runPipeline } from './pipeline.ts';

const NODE = 'energy-analyzer';
/** How long the analyzer holds its call open: long enough to be shot in the middle of it. */
const DELAY_MS = 4_000;
const LEASE_TTL_MS = 3_000;
const HEARTBEAT_MS = 500;
/** Into the call: the service has it by then. */
const IN_FLIGHT_MS = 300;
const POLL_MS = 50;
const TIMEOUT_MS = 90_000;

/** A thing that must be so, and whether it was. */
interface Verdict {
  readonly claim: string;
  readonly holds: boolean;
  readonly evidence: string;
}

/** The lease of a task at the moment its holder was killed. */
interface Victim {
  readonly worker: StackWorker;
  readonly taskId: string;
  readonly epoch: number;
  readonly attempt: number;
  readonly inFlightMs: number;
}

interface Steps {
  /** Seconds since the beginning, and what was done. */
  readonly lines: { readonly seconds: number; readonly text: string }[];
  say(text: string): void;
}

/** `npm run demo -- --crash`: 0 when all that it claims was so. */
export async function crash(options: DemoOptions & { readonly home: string }): Promise<number> {
  const { context, root, out, print } = options;
  const { screen } = context;
  const steps = stepsOn((text) => screen.note(text));
  const directories = { crash: join(out, 'crash'), undisturbed: join(out, 'undisturbed') };
  // Files of an earlier demonstration would prove nothing.
  for (const directory of Object.values(directories)) await rm(directory, { recursive: true, force: true });

  const settings = { BATON_LEASE_TTL_MS: String(LEASE_TTL_MS), BATON_HEARTBEAT_MS: String(HEARTBEAT_MS) };
  // A database of its own: with the workers of others, there would be more than the other worker.
  const own = { port: 0, databaseUrl: '', restartWorkers: false, settings };
  const result = await withDemoStack({ ...options, ...own, delayMs: { [NODE]: DELAY_MS } }, async (up) => {
    const { baton, signal, addresses } = up;
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]);
    const names = addresses.workers.map(({ name, pid }) => `${name} (pid ${pid})`).join(' and ');
    steps.say(`Baton is up at ${addresses.url}; workers: ${names}; a lease lasts ${LEASE_TTL_MS / 1_000} s`);
    const definition = await energyDefinition(root, up.energy, relative(root, directories.crash));
    const running = runPipeline(context, baton, definition, deadline);
    running.catch(() => {}); // awaited below
    const victim = await killHolder(up, deadline, steps);
    const disturbed = await running;
    const task = await baton.tasks.get(victim.taskId, { signal: deadline });
    tellAttempts(task, disturbed, steps);
    const undisturbed = await runUndisturbed(options, up, directories.undisturbed, deadline, steps);
    return { victim, disturbed, task, undisturbed };
  });
  const files = await compareOutputs(directories.crash, directories.undisturbed);
  const verdicts = judge(result.victim, result.task, result.disturbed, result.undisturbed, files);
  screen.note('');
  for (const { claim, holds, evidence } of verdicts) {
    screen.note({ text: holds ? '✓ ' : '✗ ', style: holds ? 'green' : 'red' }, `${claim}: ${evidence}`);
  }
  const ok = verdicts.every(({ holds }) => holds);
  print?.({
    ok,
    run_id: result.disturbed.id,
    state: result.disturbed.state,
    nodes: result.disturbed.nodes.map(nodeReport),
    undisturbed_run_id: result.undisturbed.id,
    killed: { worker: result.victim.worker.name, pid: result.victim.worker.pid, epoch: result.victim.epoch },
    attempts: result.task.attempts,
    verdicts,
    steps: steps.lines,
    outputs: { ...directories, files },
  });
  return ok ? EXIT.ok : EXIT.failed;
}

function stepsOn(write: (line: string) => void): Steps {
  const startedAt = performance.now();
  const lines: { seconds: number; text: string }[] = [];
  return {
    lines,
    say(text) {
      const seconds = Math.round(performance.now() - startedAt) / 1_000;
      lines.push({ seconds, text });
      write(`${seconds.toFixed(1).padStart(5)} s  ${text}`);
    },
  };
}

/** Waits until a worker has the analyzer's call in flight, and kills it with SIGKILL. */
async function killHolder({ addresses, baton }: DemoStack, signal: AbortSignal, steps: Steps): Promise<Victim> {
  for (;;) {
    signal.throwIfAborted();
    for (const worker of addresses.workers) {
      const running = await runningOn(worker, signal);
      if (running === undefined || running.inFlightMs < IN_FLIGHT_MS) continue;
      if ((await baton.tasks.get(running.taskId, { signal })).nodeId !== NODE) continue;
      process.kill(worker.pid, 'SIGKILL');
      const { taskId, epoch, attempt, inFlightMs } = running;
      const held = `the lease of ${NODE} (task ${taskId}, attempt ${attempt}, epoch ${epoch})`;
      steps.say(`kill -9 ${worker.pid}: ${worker.name} held ${held}, its call in flight for ${inFlightMs} ms`);
      return { ...running, worker };
    }
    await sleep(POLL_MS, undefined, { signal });
  }
}

/** What a worker has carried out for longest, as it tells itself. */
async function runningOn(worker: StackWorker, signal: AbortSignal): Promise<Omit<Victim, 'worker'> | undefined> {
  const transport = createConnectTransport({ baseUrl: worker.url!, httpVersion: '1.1' });
  const { running } = await createClient(WorkerService, transport).getStatus({}, { signal });
  const longest = running.map(({ taskId, epoch, attempt, ranFor }) => ({
    taskId,
    epoch,
    attempt,
    inFlightMs: Number(ranFor?.seconds ?? 0n) * 1_000 + Math.round((ranFor?.nanos ?? 0) / 1e6),
  }));
  return longest.sort((a, b) => b.inFlightMs - a.inFlightMs)[0];
}

function tellAttempts(task: TaskDetails, run: RunView, steps: Steps): void {
  for (const { number, epoch, state, worker, endTime } of [...task.attempts].sort((a, b) => a.epoch - b.epoch)) {
    const at = endTime === undefined ? '' : ` at ${endTime.toISOString()}`;
    steps.say(`attempt ${number}, epoch ${epoch} on ${worker}: ${state}${at}`);
  }
  steps.say(`run ${run.id} ${run.state}`);
}

/** The same once more, with services that hold nothing open and nobody killed. */
async function runUndisturbed(
  { context, root }: DemoOptions,
  { baton }: DemoStack,
  directory: string,
  signal: AbortSignal,
  steps: Steps,
): Promise<RunView> {
  const energy: EnergyServices = await startEnergy(root);
  try {
    steps.say('the same once more, undisturbed');
    const definition = await energyDefinition(root, energy, relative(root, directory));
    const run = await runPipeline(context, baton, definition, signal);
    steps.say(`run ${run.id} ${run.state}`);
    return run;
  } finally {
    await energy.stop();
  }
}

function judge(
  victim: Victim,
  task: TaskDetails,
  disturbed: RunView,
  undisturbed: RunView,
  files: readonly FileComparison[],
): Verdict[] {
  const first = task.attempts.find(({ epoch }) => epoch === victim.epoch);
  const last = task.attempts.find(({ state }) => state === 'succeeded');
  const different = files.filter(({ equal }) => !equal).map(({ file }) => file);
  return [
    {
      claim: 'both runs succeeded',
      holds: disturbed.state === 'succeeded' && undisturbed.state === 'succeeded',
      evidence: `${disturbed.id} ${disturbed.state}, ${undisturbed.id} ${undisturbed.state}`,
    },
    {
      claim: `the lease of the worker that was killed was lost`,
      holds: disturbed.nodes.find(({ nodeId }) => nodeId === NODE)?.taskId === victim.taskId && first?.state === 'lost',
      evidence: `epoch ${victim.epoch} on ${victim.worker.name}: ${first?.state ?? 'not recorded'}`,
    },
    {
      claim: 'a higher epoch on the other worker finished',
      holds: last !== undefined && last.epoch > victim.epoch && last.worker !== victim.worker.name,
      evidence: last === undefined ? 'none did' : `epoch ${last.epoch} on ${last.worker}`,
    },
    {
      claim: 'the outputs are byte-equal to those of the undisturbed run',
      holds: files.length > 0 && different.length === 0,
      evidence: different.length === 0 ? `${files.length} files` : `different: ${different.join(', ')}`,
    },
  ];
}
