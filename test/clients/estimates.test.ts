import { createBaton, type RunView } from '@baton/client';
import { useStack } from '@baton/testkit/vitest';
import { expect, test } from 'vitest';

const stack = useStack({ tasksModule: new URL('./estimates.tasks.ts', import.meta.url) });

const median = (numbers: readonly number[]): number => {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
};
const tookMs = ({ startTime, endTime }: { startTime?: Date; endTime?: Date }) =>
  endTime!.getTime() - startTime!.getTime();
const within = (part: number, value: number | undefined, of: number) =>
  value !== undefined && Math.abs(value - of) <= part * of;

test('after ten runs the estimates are within a quarter of the medians of those runs', {
  timeout: 90_000,
}, async () => {
  const baton = createBaton({ url: stack().url });
  const definition = {
    name: 'steady',
    nodes: {
      first: { task: 'last', input: { ms: 200 } },
      beside: { task: 'last', input: { ms: 100 } },
      second: { needs: ['first', 'beside'], task: 'last', input: { ms: 300 } },
    },
  };
  const runs: RunView[] = [];
  for (let i = 0; i < 10; i++) runs.push(await (await baton.runs.start(definition)).result());
  const next = await baton.runs.start(definition);
  const measured = median(runs.map(tookMs));
  const byNode = new Map(
    ['first', 'beside', 'second'].map((id) => [
      id,
      median(runs.map((run) => tookMs(run.nodes.find(({ nodeId }) => nodeId === id)!))),
    ]),
  );
  // A master remembers what it has read for ten seconds: of fewer runs, at first.
  await expect
    .poll(
      async () => {
        const { estimatedMs, nodes } = await next.status();
        const off = nodes.filter((node) => !within(0.25, node.estimatedMs, byNode.get(node.nodeId)!));
        return [within(0.25, estimatedMs, measured), ...off.map(({ nodeId }) => nodeId)];
      },
      { timeout: 45_000, interval: 500 },
    )
    .toEqual([true]);
  const view = await next.status();
  expect(view.nodes.map(({ nodeId, wave }) => [nodeId, wave])).toEqual([
    ['beside', 0],
    ['first', 0],
    ['second', 1],
  ]);
  await next.result();
});
