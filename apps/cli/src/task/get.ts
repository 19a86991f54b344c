import type { TaskDetails } from '@baton/client';
import type { CliContext } from '../context.ts';
import type { CommonFlags } from '../flags.ts';
import { cleanJson } from '../terminal/clean.ts';
import { sizeText } from '../terminal/size.ts';
import { type Cell, printTable } from '../terminal/table.ts';
import { durationText, stateCell, timeText } from '../terminal/words.ts';
import { taskTimeText, taskWorker } from './now.ts';

/** `baton task get TASK`. */
export async function get(this: CliContext, flags: CommonFlags, id: string): Promise<void> {
  const baton = await this.connect(flags);
  const task = await baton.tasks.get(id, { signal: this.signal });
  if (flags.output === 'json') {
    this.screen.json(task);
    return;
  }
  for (const [name, cell] of fields(task, this.now())) {
    if (cell === undefined || cell === '') continue;
    const value = typeof cell === 'number' ? String(cell) : cell;
    this.screen.line({ text: name.padEnd(10), style: 'dim' }, value);
  }
  if (task.attempts.length === 0) return;
  this.screen.line('');
  printTable(
    this.screen,
    ['ATTEMPT', 'STATE', 'TIME', 'WORKER', 'EPOCH', 'FAILURE'],
    task.attempts.map((attempt) => [
      attempt.number,
      stateCell(attempt.state),
      durationText(attempt.startTime ?? attempt.grantTime, attempt.endTime, this.now()),
      attempt.worker,
      attempt.epoch,
      attempt.failure && { text: `${attempt.failure.type}: ${attempt.failure.message}`, style: 'red' },
    ]),
  );
}

/** How far it is, as it said. */
function progressText({ progress, state }: TaskDetails): string | undefined {
  if (progress === undefined || state !== 'leased') return undefined;
  const share = progress.fraction === undefined ? undefined : `${Math.floor(progress.fraction * 100)} %`;
  const words = [share, progress.message].filter((word) => word !== undefined);
  return words.length === 0 ? undefined : words.join(' ');
}

function executorText(executor: TaskDetails['executor']): string {
  switch (executor.type) {
    case 'grpc':
      return `${executor.address} ${executor.method}`;
    case 'process':
      return `process ${executor.command.map((word) => (/^[\w./:=@-]+$/.test(word) ? word : JSON.stringify(word))).join(' ')}`;
    case 'http':
      return `${executor.method ?? 'POST'} ${executor.url}`;
    case 'container':
      return `container ${executor.image}`;
    default:
      return executor.type;
  }
}

const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;

function resourcesText({ resources }: TaskDetails): string | undefined {
  if (!resources) return undefined;
  const { cpus = 0, memoryBytes = 0, gpus = 0, gpuMemoryBytes = 0, gpuModel } = resources;
  const devices = gpus > 0 && `${gpus} × GPU${gpuModel ? ` ${gpuModel}` : ''} of ${gib(gpuMemoryBytes)}`;
  return [`${cpus} CPU`, gib(memoryBytes), devices].filter(Boolean).join(', ');
}

function requirementsText({ requires }: TaskDetails): string | undefined {
  if (!requires) return undefined;
  const { os = [], tools = [], selector } = requires;
  return [os.join(' or '), ...tools, selector].filter(Boolean).join('; ');
}

function fields(task: TaskDetails, nowMs: number): [string, Cell][] {
  return [
    ['task', task.id],
    ['kind', task.kind],
    ['state', stateCell(task.state)],
    ['queue', task.queue],
    ['class', task.taskClass],
    ['tags', task.tags.join(', ')],
    ['resources', resourcesText(task)],
    ['requires', requirementsText(task)],
    ['executor', executorText(task.executor)],
    ['attempts', `${task.attempt} of ${task.maxAttempts}`],
    ['priority', task.priority === 0 ? undefined : task.priority],
    ['submitted', timeText(task.createTime)],
    ['due', task.state === 'scheduled' || task.state === 'backoff' ? timeText(task.dueTime) : undefined],
    ['time', taskTimeText(task, nowMs) ?? '-'],
    ['worker', taskWorker(task)],
    ['progress', progressText(task)],
    ['run', task.runId && `${task.runId}, node ${task.nodeId ?? ''}`],
    ['key', task.idempotencyKey],
    ['input', task.input === undefined ? undefined : cleanJson(task.input)],
    ['output', task.output === undefined ? undefined : cleanJson(task.output)],
    ['handed', artifactsText(Object.entries(task.artifacts ?? {}).map(([name, file]) => ({ name, ...file })))],
    ['artifacts', artifactsText(task.outputArtifacts ?? [])],
    ['failure', task.failure && { text: `${task.failure.type}: ${task.failure.message}`, style: 'red' }],
    ['cancelled', task.cancelReason],
  ];
}

function artifactsText(files: readonly { readonly name: string; readonly sizeBytes: number }[]): string | undefined {
  return files.length === 0
    ? undefined
    : files.map(({ name, sizeBytes }) => `${name} (${sizeText(sizeBytes)})`).join(', ');
}
