import type postgres from 'postgres';
import type { StepEffect } from './effects.ts';
import { OUTPUTS } from './workflows.ts';

export interface WorkflowsChecked {
  readonly wrong: string[];
  /** Fan-outs whose outputs were compared, runs of functions that succeeded, steps that were journaled. */
  readonly fans: number;
  readonly functions: number;
  readonly steps: number;
  /** Steps that were begun more than once, which is right only for those in flight. */
  readonly again: number;
}

/**
 * What runs promise beside what tasks do: fan-ins in the order of the items; a function gives what its steps gave; a step that is in the
 * journal is made no more, by any activation that began after it was there; nothing is refused for not being deterministic; no run outlives
 * the one that made it.
 */
export async function checkWorkflows(sql: postgres.Sql, effects: readonly StepEffect[]): Promise<WorkflowsChecked> {
  const wrong: string[] = [];
  const runs = await sql`
    select id, workflow_name, state, convert_from(output, 'UTF8') as output, convert_from(input, 'UTF8') as input, failure ->> 'type' as type,
           failure ->> 'message' as message from baton.runs`;
  let fans = 0;
  let functions = 0;
  for (const { id, workflow_name, state, output, input, type, message } of runs) {
    const name = workflow_name as string;
    const isMeant = name === 'doomed' || name === 'shaky';
    if (state === 'failed' && type === 'EVALUATION_ERROR' && !isMeant)
      wrong.push(`run ${id} of ${name} failed by itself: ${message}`);
    if (state !== 'succeeded') continue;
    const expected = name === 'saga' ? 10 * Number(input) : OUTPUTS[name];
    if (expected === undefined) continue;
    if (name === 'saga') functions++;
    else fans++;
    if (JSON.stringify(JSON.parse(output as string)) !== JSON.stringify(expected))
      wrong.push(`run ${id} of ${name} gave ${output}, not ${JSON.stringify(expected)}`);
  }
  const orphans = await sql`
    select c.id, c.state, p.id as parent, p.state as parent_state from baton.runs c join baton.runs p on p.id = c.parent_run_id
    where c.state in ('pending', 'running', 'waiting') and p.state in ('succeeded', 'failed', 'cancelled')`;
  for (const { id, state, parent, parent_state } of orphans)
    wrong.push(`run ${id} is ${state}, run ${parent}, which made it, has ${parent_state}`);

  const journaled = new Map<string, number>();
  for (const row of await sql`
    select run_id, number, (extract(epoch from at) * 1000)::double precision as written_ms from baton.journal
    where kind = 'step' and position is not null and failure is null`)
    journaled.set(`${row.run_id}/${row.number}`, row.written_ms as number);
  const activations = new Map<string, number>();
  const begun = new Map<string, number>();
  for (const { what, runId, stepKey, pid, atMs } of effects) {
    const activation = `${runId} ${pid}`;
    if (what === 'activation') {
      activations.set(activation, atMs);
      continue;
    }
    const times = (begun.get(stepKey) ?? 0) + 1;
    begun.set(stepKey, times);
    const writtenMs = journaled.get(stepKey);
    const sinceMs = activations.get(activation);
    // Who was stopped in the middle of a step, and goes on behind the end of its lease, began before.
    if (times > 1 && writtenMs !== undefined && sinceMs !== undefined && sinceMs > writtenMs)
      wrong.push(
        `step ${stepKey} was made at ${atMs} by process ${pid}, which began at ${sinceMs}: it was written to the journal at ${writtenMs}`,
      );
  }
  for (const key of journaled.keys())
    if (!begun.has(key)) wrong.push(`step ${key} is in the journal, and nobody made it`);
  return { wrong, fans, functions, steps: journaled.size, again: [...begun.values()].filter((n) => n > 1).length };
}
