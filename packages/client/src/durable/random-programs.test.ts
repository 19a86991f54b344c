import { expect, test } from 'vitest';
import type { WorkflowContext } from '../workflows/workflow-function.ts';
import { workflowContext } from './context.ts';
import { StepFailed } from './errors.ts';
import { type FunctionEnd, FunctionRun } from './function-run.ts';
import { MemoryJournal, VirtualClock } from './memory-journal.fixture.ts';
import { Randomness } from './randomness.ts';

type Node =
  | { do: 'step'; name: string; fails: number }
  | { do: 'sleep'; ms: number }
  | { do: 'signal'; name: string; timeout: number }
  | { do: 'task'; name: string }
  | { do: 'sequence' | 'all' | 'race'; parts: Node[] };

/** A program of a few dozen commands, side by side and one after the other, from a seed. */
function program(random: Randomness, depth: number): Node {
  const pick = random.uint32() % (depth === 0 ? 6 : 11);
  if (pick < 3) return { do: 'step', name: `s${random.uint32() % 3}`, fails: random.uint32() % 5 === 0 ? 5 : 0 };
  if (pick === 3) return { do: 'sleep', ms: [10, 300, 90_000][random.uint32() % 3]! };
  if (pick === 4) return { do: 'signal', name: `g${random.uint32() % 2}`, timeout: 5_000 };
  if (pick === 5) return { do: 'task', name: `t${random.uint32() % 2}` };
  const parts = Array.from({ length: 1 + (random.uint32() % 4) }, () => program(random, depth - 1));
  return { do: pick < 8 ? 'sequence' : pick < 10 ? 'all' : 'race', parts };
}

/** Carries a program out; what it gives says which way it went. `effect`: a step's code runs. */
async function carryOut(ctx: WorkflowContext, node: Node, effect: (stepKey: string) => void): Promise<unknown> {
  switch (node.do) {
    case 'step':
      return ctx
        .step(
          node.name,
          async ({ stepKey, attempt }) => {
            effect(stepKey);
            await new Promise((resolve) => setTimeout(resolve, stepKey.length % 3));
            if (attempt <= node.fails) throw new Error(`try ${attempt}`);
            return `${node.name} ${stepKey}`;
          },
          { retry: { maxAttempts: 2, initialDelayMs: 1 } },
        )
        .catch((error: unknown) => {
          if (error instanceof StepFailed) return error.message;
          throw error;
        });
    case 'sleep':
      await ctx.sleep(node.ms);
      return ctx.now();
    case 'signal':
      return (await ctx.waitFor(node.name, { timeout: node.timeout })) ?? 'nothing';
    case 'task':
      return ctx.run(node.name);
    case 'sequence': {
      const given: unknown[] = [];
      for (const part of node.parts) given.push(await carryOut(ctx, part, effect), ctx.random());
      return given;
    }
    case 'all':
      return Promise.all(node.parts.map((part) => carryOut(ctx, part, effect)));
    case 'race':
      return Promise.race(node.parts.map((part) => carryOut(ctx, part, effect)));
  }
}

interface Played {
  value: unknown;
  goes: number;
  crashes: number;
}

/** Plays a program to its end. `crashAt` says of each append whether the worker dies before or after it, or does not. */
async function play(seed: string, crashAt: (append: number) => 'before' | 'after' | undefined): Promise<Played> {
  const tree: Node = {
    do: 'sequence',
    parts: [program(new Randomness(seed), 3), program(new Randomness(`${seed}.`), 3)],
  };
  const clock = new VirtualClock();
  const journal = new MemoryJournal(clock);
  /** Of steps: when their code ran last, and of entries when they were there first, in one count. */
  let moment = 0;
  const ranAt = new Map<string, number>();
  const keptAt = new Map<number, number>();
  let crashes = 0;
  let abort = new AbortController();
  const crash = () => {
    crashes++;
    abort.abort(new Error('the worker died'));
    throw new Error('the worker died');
  };
  const keep = () => {
    for (const e of journal.entries) if (e.position > 0 && !keptAt.has(e.number)) keptAt.set(e.number, ++moment);
  };
  journal.before = () => {
    if (crashAt(journal.appends) === 'before') crash();
  };
  journal.after = () => {
    keep();
    if (crashAt(journal.appends) === 'after') crash();
  };
  const effect = (stepKey: string) => {
    ranAt.set(stepKey, ++moment);
    const number = Number(stepKey.split('/')[1]);
    if (keptAt.has(number)) throw new Error(`step ${number} was in the journal, and ran again`);
  };
  const again: string[] = [];
  const body = (ctx: WorkflowContext) =>
    carryOut(ctx, tree, (stepKey) => {
      try {
        effect(stepKey);
      } catch (error) {
        again.push((error as Error).message);
      }
    });
  /** The end of the function and what the journal still lacks are written together, or not at all. */
  const settled = async (end: FunctionEnd & { kind: 'completed' }): Promise<FunctionEnd> => {
    try {
      if (end.rest.length > 0) await journal.append(end.rest, end.seenPosition);
    } catch {
      return { kind: 'aborted' };
    }
    return { ...end, rest: [], seenPosition: 0 };
  };
  const go = async (check: boolean): Promise<FunctionEnd> => {
    abort = new AbortController();
    const { wakes, nowMs } = journal.load();
    keep();
    const run = new FunctionRun({
      runId: '9',
      startMs: 1,
      entries: journal.entries.map((e) => ({ ...e })),
      wakes,
      nowMs,
      journal: check ? null : journal,
      clock,
      signal: abort.signal,
      patienceMs: 1e9,
    });
    const ticks = setInterval(() => clock.advance(clock.now() + 400), 1);
    try {
      const end = await run.run(() => body(workflowContext(run, '9', () => {})));
      return end.kind === 'completed' ? await settled(end) : end;
    } finally {
      clearInterval(ticks);
    }
  };
  for (let goes = 1; goes < 400; goes++) {
    const end = await go(false);
    expect(again).toEqual([]);
    if (end.kind === 'completed') {
      // What it went through is what a replay goes through.
      const replayed = await go(true);
      expect(replayed).toEqual(end);
      return { value: end.value, goes, crashes };
    }
    if (end.kind === 'failed') throw end.error;
    if (end.kind === 'suspended') {
      if (goes % 3 === 0) journal.signal(`g${goes % 2}`, goes);
      else if (!journal.endTasks() && end.dueAtMs !== null) clock.passTo(end.dueAtMs);
    }
  }
  throw new Error(`program ${seed} does not come to its end`);
}

let died = 0;

test.each(Array.from({ length: 60 }, (_, i) => i))(
  'program %i: dies at random, makes no step again that is in its journal, and replays as it went',
  async (i) => {
    const dice = new Randomness(`dice ${i}`);
    const { crashes } = await play(`program ${i}`, () => {
      const roll = dice.uint32() % 10;
      return roll === 0 ? 'before' : roll === 1 ? 'after' : undefined;
    });
    died += crashes;
  },
);

test('they did die', () => {
  expect(died).toBeGreaterThan(40);
});

test('a program that dies at each of its appends, one after the other, gives what it gives undisturbed', async () => {
  // Without a race and without signals nothing but the program decides what it gives.
  const seeds = Array.from({ length: 4_000 }, (_, i) => `plain ${i}`).filter((seed) => {
    const text = JSON.stringify([program(new Randomness(seed), 3), program(new Randomness(`${seed}.`), 3)]);
    return !/race|signal|sleep|all/.test(text) && text.split('step').length > 5;
  });
  expect(seeds.length).toBeGreaterThan(2);
  for (const seed of seeds.slice(0, 4)) {
    const calm = await play(seed, () => undefined);
    for (const when of ['before', 'after'] as const)
      for (let n = 1; n <= 12; n++) {
        const broken = await play(seed, (append) => (append === n ? when : undefined));
        expect(broken.value).toEqual(calm.value);
      }
  }
});
