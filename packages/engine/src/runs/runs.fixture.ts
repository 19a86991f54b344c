import { createIdMaker, type JsonValue } from '@baton/domain';
import { claimTasks, completeTasks, type Grant, openPools, registerWorker, type Sql, settleTasks } from '@baton/store';
import { testDatabase } from '@baton/testkit';
import { createEngine, type Engine } from '../engine.ts';
import { silentLog } from '../environment.ts';
import { DEFAULT_SETTINGS } from '../settings.ts';

/** A task as the worker of the stage gets it. */
export interface StageTask extends Grant {
  kind: string;
  node: string;
  item: number | null;
  value: JsonValue;
}

/** One database with masters that nothing drives but their own pokes, and a worker that takes tasks from the tables. */
export interface RunStage {
  sql: Sql;
  masters: Engine[];
  /** Starts a run of a definition. */
  start(definition: object, input?: JsonValue): Promise<string>;
  /** Takes up to `count` tasks that are ready. */
  take(count?: number): Promise<StageTask[]>;
  succeed(ends: readonly { task: StageTask; output: JsonValue }[]): Promise<void>;
  fail(tasks: readonly StageTask[], state?: 'failed' | 'cancelled'): Promise<void>;
  /** Waits until nothing is due, all masters at it. */
  settle(): Promise<void>;
  /** Does what is ready until the run has ended: each task by `perform`, which fails it by throwing. @returns how many were done */
  carryOut(runId: string, perform: (task: StageTask) => JsonValue, perRound?: number): Promise<number>;
  run(runId: string): Promise<Record<string, unknown> & { state: string }>;
  nodes(runId: string): Promise<Record<string, Record<string, unknown> & { state: string }>>;
  output(runId: string): Promise<JsonValue>;
  /** Nobody does a thing twice: each (node, item, execution) of a run has had one task that was not forgotten. */
  tasksPer(runId: string): Promise<number[]>;
  drop(): Promise<void>;
}

/** @param now clock of the masters; ids are made by the real one */
export async function runStage(masterCount = 1, now: () => number = Date.now): Promise<RunStage> {
  const database = await testDatabase({ migrated: true });
  const masters = Array.from({ length: masterCount }, (_, i) => {
    const pools = openPools(database.url);
    const ids = createIdMaker(30 + i, Date.now);
    return createEngine({
      pools,
      ids,
      settings: DEFAULT_SETTINGS,
      now,
      random: Math.random,
      endOfTurn: setImmediate,
      log: silentLog,
    });
  });
  const sql = masters[0]!.env.pools.api;
  const sessionId = masters[0]!.env.ids.next();
  await masters[0]!.lanes.namespaceId('default');
  await registerWorker(sql, {
    sessionId,
    namespaceId: 1,
    name: 'stage',
    instanceId: sessionId,
    capabilities: {},
    serviceUrl: '',
    version: '0',
    metadata: {},
    leaseTtlMs: 3_600_000,
  });
  const bytes = (value: JsonValue) => new TextEncoder().encode(JSON.stringify(value));
  let turn = 0;
  /** One master, the next, all of them; then again. */
  const pokeSome = () => {
    const one = turn++ % (masters.length + 1);
    for (const [i, master] of masters.entries()) if (one === i || one === masters.length) master.runs.poke();
  };
  const ENDED = ['succeeded', 'failed', 'cancelled'];

  const stage: RunStage = {
    sql,
    masters,
    async start(definition, input = null) {
      const { runId } = await masters[0]!.runs.start('default', {
        workflow: { definitionJson: JSON.stringify(definition) },
        input: bytes(input),
        encoding: 1,
        idempotencyKey: null,
        labels: null,
      });
      return runId;
    },
    async take(count = 500) {
      const lanes = (await sql.unsafe('select distinct lane_id from baton.ready')).map((r) => r.lane_id as number);
      const grants = lanes.length === 0 ? [] : await claimTasks(sql, lanes, [{ sessionId, count }]);
      const rows = await sql.unsafe(
        `select t.id, r.kind, t.node_id, t.item, convert_from(t.input, 'UTF8') as input
         from unnest($1::bigint[]) i(id) join baton.tasks t on t.id = i.id join baton.routes r on r.id = t.route_id`,
        [`{${grants.map((g) => g.taskId).join(',')}}`],
      );
      const specs = new Map(rows.map((r) => [r.id as string, r]));
      return grants.map((grant) => {
        const spec = specs.get(grant.taskId)!;
        return {
          ...grant,
          kind: spec.kind as string,
          node: spec.node_id as string,
          item: spec.item as number | null,
          value: spec.input === null ? null : (JSON.parse(spec.input as string) as JsonValue),
        };
      });
    },
    async succeed(ends) {
      if (ends.length === 0) return;
      await completeTasks(
        sql,
        ends.map(({ task: { taskId, epoch, sessionId }, output }) => ({
          taskId,
          epoch,
          sessionId,
          output: bytes(output),
          encoding: 1,
          ranUs: 1,
        })),
      );
      pokeSome();
    },
    async fail(tasks, state = 'failed') {
      if (tasks.length === 0) return;
      await settleTasks(
        sql,
        tasks.map(({ taskId, epoch, sessionId }) => ({
          taskId,
          epoch,
          sessionId,
          attempt: state,
          next: state,
          delayMs: null,
          budget: 'none' as never,
          failure: { type: 'UNKNOWN', message: 'it was to fail' },
          ranUs: 1,
        })),
      );
      pokeSome();
    },
    async settle() {
      for (;;) {
        for (const master of masters) master.runs.poke();
        const [row] = await sql.unsafe('select count(*)::integer as n from baton.advances');
        if (row!.n === 0) return;
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
    },
    async carryOut(runId, perform, perRound = 500) {
      let done = 0;
      for (let idle = 0; !ENDED.includes((await stage.run(runId)).state); ) {
        const tasks = await stage.take(perRound);
        done += tasks.length;
        const good: { task: StageTask; output: JsonValue }[] = [];
        const bad: StageTask[] = [];
        for (const task of tasks) {
          try {
            good.push({ task, output: perform(task) });
          } catch {
            bad.push(task);
          }
        }
        await stage.succeed(good);
        await stage.fail(bad);
        idle = tasks.length > 0 ? 0 : idle + 1;
        if (idle > 2_000)
          throw new RangeError(`run ${runId} stands still: ${JSON.stringify(await stage.nodes(runId))}`);
        if (tasks.length === 0) {
          for (const master of masters) master.runs.poke();
          await new Promise((resolve) => setTimeout(resolve, 2));
        }
      }
      return done;
    },
    async run(runId) {
      const [row] = await sql.unsafe('select * from baton.runs where id = $1', [runId]);
      return row as never;
    },
    async nodes(runId) {
      const rows = await sql.unsafe('select * from baton.run_nodes where run_id = $1', [runId]);
      return Object.fromEntries(rows.map((r) => [r.node_id as string, r])) as never;
    },
    async output(runId) {
      const { output } = await stage.run(runId);
      return output ? (JSON.parse(new TextDecoder().decode(output as Uint8Array)) as JsonValue) : null;
    },
    async tasksPer(runId) {
      const rows = await sql.unsafe(
        'select count(*)::integer as n from baton.tasks where run_id = $1 group by node_id, item order by n desc',
        [runId],
      );
      return rows.map((r) => r.n as number);
    },
    async drop() {
      for (const master of masters) await master.stop();
      for (const master of masters) await master.env.pools.end();
      await database.drop();
    },
  };
  return stage;
}
