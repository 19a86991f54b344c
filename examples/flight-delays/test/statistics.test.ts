import { expect, test } from 'vitest';
import { drawDelays } from '../src/chart.ts';
import { addUp, countDelays } from '../src/statistics.ts';

const flights = [
  { delay: 20, distance: 400, time: 1.5 },
  { delay: -4, distance: 400, time: 1.99 },
  { delay: 15, distance: 400, time: 2 },
  { delay: 90, distance: 100, time: 23.983 },
];

test('flights are counted by route and hour: how many, their delays, how many are late, the worst', () => {
  expect(countDelays(flights)).toEqual([
    [100, 23, 1, 90, 1, 90],
    [400, 1, 2, 16, 1, 20],
    [400, 2, 1, 15, 0, 15],
  ]);
});

test('parts add up to the whole, however the flights are cut', () => {
  for (let cut = 0; cut <= flights.length; cut++) {
    const parts = [countDelays(flights.slice(cut)), countDelays(flights.slice(0, cut))];
    expect(addUp(parts.flat())).toEqual(countDelays(flights));
  }
});

test('the chart has a bar for each hour, also without flights', () => {
  for (const cells of [countDelays(flights), []]) {
    const svg = drawDelays(cells);
    expect(svg.match(/<rect /g)).toHaveLength(24);
    expect(svg).not.toMatch(/NaN|Infinity|undefined/);
  }
});
