/** One flight of `flights-200k.json` in vega-datasets: delay in minutes, distance in miles, time of departure in hours (0 to 24). */
export interface Flight {
  readonly delay: number;
  readonly distance: number;
  readonly time: number;
}

/**
 * Delays of the flights of one route in one hour of the day, in minutes: `[distance, hour, flights, total, late, worst]`. The data set
 * has no airports; a route is told by its distance in miles. `late`: flights of more than 15 minutes. All are whole numbers, so that
 * sums do not depend on the order in which they are made.
 */
export type Cell = readonly [
  distance: number,
  hour: number,
  flights: number,
  total: number,
  late: number,
  worst: number,
];

const LATE_MIN = 15;

/** The cells of some flights, in the order of routes and hours. */
export function countDelays(flights: Iterable<Flight>): Cell[] {
  const cells: Cell[] = [];
  for (const { delay, distance, time } of flights)
    cells.push([distance, Math.floor(time), 1, delay, delay > LATE_MIN ? 1 : 0, delay]);
  return addUp(cells);
}

/** Adds cells of the same route and hour. */
export function addUp(parts: Iterable<Cell>): Cell[] {
  const sums = new Map<number, Cell>();
  for (const cell of parts) {
    const [distance, hour, flights, total, late, worst] = cell;
    const key = distance * 24 + hour;
    const sum = sums.get(key);
    sums.set(
      key,
      sum
        ? [distance, hour, sum[2] + flights, sum[3] + total, sum[4] + late, Math.max(sum[5], worst)]
        : [distance, hour, flights, total, late, worst],
    );
  }
  return [...sums.values()].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
}
