import { readFile } from 'node:fs/promises';
import { task } from '@baton/client';
import { drawDelays } from './chart.ts';
import { addUp, type Cell, countDelays, type Flight } from './statistics.ts';

/** Rows `from` to `to` of the data set, `to` not included. */
export interface Chunk {
  readonly from: number;
  readonly to: number;
}

let flights: Promise<readonly Flight[]> | undefined;

/** All flights: 9.9 MB of JSON, read once by each worker. */
export function readFlights(): Promise<readonly Flight[]> {
  flights ??= readFile(new URL('../data/flights-200k.json', import.meta.resolve('vega-datasets')), 'utf8').then(
    (text) => JSON.parse(text) as Flight[],
  );
  return flights;
}

export const split = task({
  id: 'flights-split',
  run: async ({ size = 5_000 }: { size?: number }): Promise<{ chunks: Chunk[] }> => {
    const { length } = await readFlights();
    const count = Math.ceil(length / size);
    return {
      chunks: Array.from({ length: count }, (_, i) => ({ from: i * size, to: Math.min((i + 1) * size, length) })),
    };
  },
});

export const count = task({
  id: 'flights-count',
  run: async ({ from, to }: Chunk): Promise<Cell[]> => countDelays((await readFlights()).slice(from, to)),
});

export const reduce = task({
  id: 'flights-reduce',
  run: (parts: readonly (readonly Cell[])[]): Cell[] => addUp(parts.flat()),
});

export const chart = task({ id: 'flights-chart', run: (cells: readonly Cell[]): string => drawDelays(cells) });
