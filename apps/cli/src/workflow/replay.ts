import type { RunView, WorkflowFunction } from '@baton/client';
import { isWorkflowFunction } from '@baton/client';
import { checkReplay, type FunctionClock, type ReplayReport } from '@baton/client/durable';
import type { CliContext } from '../context.ts';
import { CliFailure, EXIT, usageError } from '../exit.ts';
import type { CommonFlags } from '../flags.ts';

export interface ReplayFlags extends CommonFlags {
  readonly run?: readonly string[];
  readonly workflow?: string;
  readonly last: number;
}

const clock: FunctionClock = {
  now: () => performance.now(),
  after(delayMs, then) {
    const timer = setTimeout(then, delayMs);
    return () => clearTimeout(timer);
  },
  turn: () => new Promise((resolve) => setImmediate(resolve)),
};

/** `baton workflow replay MODULE`. */
export async function replay(this: CliContext, flags: ReplayFlags, module: string): Promise<void> {
  const { loadTasks } = await import('@baton/worker');
  const loaded = await loadTasks([module]);
  const functions = new Map<string, WorkflowFunction>();
  for (const kind of loaded.kinds) {
    const each: unknown = loaded.get(kind);
    if (isWorkflowFunction(each)) functions.set(kind, each);
  }
  if (functions.size === 0)
    throw usageError(`${module} exports no workflow; write \`export const name = workflow({ id, run })\``);
  const baton = await this.connect(flags);
  const runs: RunView[] = [];
  for (const id of flags.run ?? []) runs.push(await baton.runs.get(id, { signal: this.signal }));
  if (flags.run === undefined)
    for (const id of flags.workflow === undefined ? functions.keys() : [flags.workflow])
      runs.push(...(await baton.runs.list({ workflowName: id, limit: flags.last, signal: this.signal }).all()));
  const reports: { id: string; workflow: string; state: string; report: ReplayReport }[] = [];
  for (const run of runs) {
    const workflow = functions.get(run.workflowName);
    if (workflow === undefined)
      throw usageError(`${module} exports no workflow "${run.workflowName}", of which run ${run.id} is`);
    const journal = await baton.runs.journal(run.id, { signal: this.signal });
    const report = await checkReplay(workflow, journal, run.state, clock);
    reports.push({ id: run.id, workflow: run.workflowName, state: run.state, report });
  }
  const differ = reports.filter(({ report }) => !report.fits);
  if (flags.output === 'json') this.screen.json(reports.map(({ report, ...run }) => ({ ...run, ...report })));
  else {
    for (const { id, workflow, state, report } of reports)
      if (report.fits)
        this.screen.line(
          `run ${id} of ${workflow} (${state}): fits, ${report.entries} steps${report.ends ? '' : ' so far'}`,
        );
      else this.screen.line({ text: `run ${id} of ${workflow} (${state}): ${report.message}`, style: 'red' });
    this.screen.note(`${reports.length - differ.length} of ${reports.length} runs fit this code`);
  }
  if (differ.length > 0)
    throw new CliFailure(EXIT.failed, `${differ.length} of ${reports.length} runs do not fit this code`);
}
