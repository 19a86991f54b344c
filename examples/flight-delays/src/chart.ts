import type { Cell } from './statistics.ts';

const WIDTH = 760;
const HEIGHT = 340;
const MARGIN = { left: 56, right: 16, top: 40, bottom: 44 };

/** Mean delay by hour of departure, as bars in SVG; the number above a bar is how many flights it stands for. */
export function drawDelays(cells: readonly Cell[]): string {
  const hours = Array.from({ length: 24 }, (_, hour) => {
    const mine = cells.filter((cell) => cell[1] === hour);
    const flights = mine.reduce((sum, cell) => sum + cell[2], 0);
    const total = mine.reduce((sum, cell) => sum + cell[3], 0);
    return { hour, flights, mean: flights === 0 ? 0 : total / flights };
  });
  const top = Math.max(...hours.map(({ mean }) => mean), 1);
  const low = Math.min(...hours.map(({ mean }) => mean), 0);
  const plotHeight = HEIGHT - MARGIN.top - MARGIN.bottom;
  const y = (minutes: number) => MARGIN.top + ((top - minutes) / (top - low)) * plotHeight;
  const step = (WIDTH - MARGIN.left - MARGIN.right) / 24;
  const bars = hours.map(({ hour, flights, mean }) => {
    const x = MARGIN.left + hour * step;
    const from = Math.min(y(mean), y(0));
    const height = Math.abs(y(mean) - y(0));
    const middle = x + step / 2;
    return [
      `<rect x="${n(x + 2)}" y="${n(from)}" width="${n(step - 4)}" height="${n(height)}" fill="#3b6ea5"/>`,
      `<text x="${n(middle)}" y="${n(from - 4)}" font-size="8" text-anchor="middle">${flights}</text>`,
      `<text x="${n(middle)}" y="${HEIGHT - MARGIN.bottom + 16}" font-size="10" text-anchor="middle">${hour}</text>`,
    ].join('');
  });
  const lines = [low, 0, top].map(
    (minutes) =>
      `<line x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${n(y(minutes))}" y2="${n(y(minutes))}" stroke="#ccc"/>` +
      `<text x="${MARGIN.left - 6}" y="${n(y(minutes) + 3)}" font-size="10" text-anchor="end">${n(minutes)}</text>`,
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif">`,
    `<text x="${MARGIN.left}" y="20" font-size="14">Mean delay in minutes, by hour of departure</text>`,
    ...lines,
    ...bars,
    '</svg>',
  ].join('\n');
}

/** Without trailing digits that differ by nothing anybody sees. */
function n(value: number): string {
  return String(Math.round(value * 10) / 10);
}
