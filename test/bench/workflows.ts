import { createBaton } from '@baton/client';
import { type CpuShare, cpuShare } from './cpu.ts';
import type { BenchOptions } from './options.ts';
import { startProduct } from './product.ts';
import type { BenchServer } from './server.ts';

/** One run of a graph of no-op tasks. */
export interface WorkflowRun {
  graph: 'chain' | 'fan-out' | 'lattice';
  nodes: number;
  slots: number;
  /** By Postgres's clock, from the start of the run to its end. */
  seconds: number;
  nodesPerSecond: number;
  usPerNode: number;
  cpu: CpuShare;
}

/** The run did not do what it was to do. */
export class WorkflowBenchError extends Error {
  override readonly name = 'WorkflowBenchError';
}

/** Small and large of each: the cost of a node is not to grow with the graph. */
function shapesOf(tasks: number): readonly { graph: WorkflowRun['graph']; side: number }[] {
  const side = (of: number) => Math.max(1, Math.round(of));
  return [
    { graph: 'chain', side: side(tasks / 100) },
    { graph: 'chain', side: side(tasks / 10) },
    { graph: 'fan-out', side: side(tasks / 10) },
    { graph: 'fan-out', side: side(tasks) },
    { graph: 'lattice', side: side(0.3 * Math.sqrt(tasks)) },
    { graph: 'lattice', side: side(Math.sqrt(tasks)) },
  ];
}

type Nodes = Record<string, object>;

/** A graph of no-ops and the number of its tasks. */
export function graphOf(graph: WorkflowRun['graph'], side: number): { nodes: Nodes; tasks: number } {
  const nodes: Nodes = {};
  if (graph === 'chain') {
    for (let i = 0; i < side; i++) nodes[`n${i}`] = { task: 'noop', needs: i === 0 ? [] : [`n${i - 1}`] };
    return { nodes, tasks: side };
  }
  if (graph === 'fan-out') {
    nodes.map = { task: 'noop', for_each: { $input: ['items'] }, input: { $expr: 'item' } };
    nodes.reduce = { task: 'noop', needs: ['map'], input: { all: { $from: 'map' } } };
    return { nodes, tasks: side + 1 };
  }
  for (let row = 0; row < side; row++)
    for (let column = 0; column < side; column++) {
      const needs: string[] = [];
      if (row > 0) needs.push(`r${row - 1}c${column}`);
      if (column > 0) needs.push(`r${row}c${column - 1}`);
      nodes[`r${row}c${column}`] = { task: 'noop', needs };
    }
  return { nodes, tasks: side * side };
}

/** Runs each graph once, on one master and one worker of the last number of slots. */
export async function measureWorkflows(
  server: BenchServer,
  options: BenchOptions,
  onRun: (run: WorkflowRun) => void,
): Promise<WorkflowRun[]> {
  const slots = options.concurrency.at(-1)!;
  await using product = await startProduct(server, options);
  await product.addWorkers(1, slots);
  const baton = createBaton({ url: product.url });
  const { sql } = product.database;

  async function once(graph: WorkflowRun['graph'], side: number): Promise<WorkflowRun> {
    const { nodes, tasks } = graphOf(graph, side);
    const name = `${graph}-${side}`;
    await baton.workflows.apply({ name, nodes, output: 0 });
    const from = product.readCpu();
    const { id: runId } = await baton.runs.start(name, {
      input: graph === 'fan-out' ? { items: Array.from({ length: side }, (_, i) => i) } : {},
    });
    for (;;) {
      const [row] =
        await sql`select state, failure_message, extract(epoch from ended_at - started_at)::double precision as seconds from baton.runs where id = ${runId}`;
      if (row!.state === 'succeeded') {
        const [done] = await sql`select count(*)::integer as n from baton.tasks where run_id = ${runId}`;
        if (done!.n !== tasks) throw new WorkflowBenchError(`${name} had ${done!.n} tasks, not ${tasks}`);
        const seconds = row!.seconds as number;
        return {
          graph,
          nodes: tasks,
          slots,
          seconds,
          nodesPerSecond: tasks / seconds,
          usPerNode: (seconds * 1e6) / tasks,
          cpu: cpuShare(from, product.readCpu(), tasks),
        };
      }
      if (row!.state === 'failed' || row!.state === 'cancelled')
        throw new WorkflowBenchError(`${name} ${row!.state}: ${row!.failure_message}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  const shapes = shapesOf(options.tasks);
  // Prepared statements, compiled code.
  for (const { graph } of shapes) await once(graph, 10);
  const runs: WorkflowRun[] = [];
  for (const { graph, side } of shapes) {
    const run = await once(graph, side);
    runs.push(run);
    onRun(run);
  }
  return runs;
}
