import { ANOMALY_SIGMAS, type IowaAnalysis, type IowaReading } from '../analyzer/iowa.ts';
import type { Origin } from '../readings.ts';
import { FLAG_GAP, type Flag, placeFlags } from './flags.ts';
import { iowaFinding, type SourceTrend, trends } from './iowa-report.ts';
import { percent, plural, signed } from './numbers.ts';
import * as svg from './svg.ts';

const WIDTH = 960;
const PAD = 32;
const LEFT = 76;
const RIGHT = WIDTH - 196;
const AREA_HEIGHT = 330;
const BARS_HEIGHT = 84;
const FLAG_ROW = 40;
const MAX_FLAG_ROWS = 5;

/** Colours that go with the meaning where the meaning is known; grey steps back. */
const MEANT = new Map([
  ['Renewables', svg.GREEN],
  ['Nuclear Energy', svg.ORANGE],
  ['Fossil Fuels', svg.GREY],
]);
const OTHERS = [svg.BLUE, svg.PURPLE, svg.VERMILLION, svg.GREEN, svg.ORANGE, svg.GREY];

interface Band extends SourceTrend {
  readonly color: typeof svg.GREY;
  /** Lower and upper edge in percent, one pair per year. */
  readonly edges: ReadonlyArray<readonly [number, number]>;
  readonly readings: readonly IowaReading[];
}

interface Scales {
  x(year: number): number;
  y(sharePct: number): number;
}

/**
 * Stacked areas of the shares, the source that gained most at the bottom where it can be read off the axis; anomalies on
 * flags above; below, the totals as bars over the same years.
 */
export function iowaChart(analysis: IowaAnalysis, origin: Origin): string {
  const { years } = analysis;
  const title = iowaFinding(analysis, origin.place);
  const bands = stack(analysis);
  const [firstYear, lastYear] = [years[0]!.year, years[years.length - 1]!.year];
  // One year alone has no width: it is drawn as if it lasted from one side to the other.
  const x = (year: number) =>
    firstYear === lastYear ? (LEFT + RIGHT) / 2 : LEFT + ((year - firstYear) / (lastYear - firstYear)) * (RIGHT - LEFT);

  const titleLines = svg.wrap(title, WIDTH - 2 * PAD, 25, 2, 700);
  const head = [
    ...titleLines.map((line, i) => svg.label(PAD, 46 + i * 31, line, { size: 25, weight: 700 })),
    svg.label(PAD, 41 + titleLines.length * 31, 'Share of net generation by source, in percent of each year’s total', {
      size: 15,
      fill: svg.MUTED,
    }),
  ];
  const flags = anomalyFlags(analysis, bands, x);
  const placed = placeFlags(flags, [LEFT, WIDTH - PAD], MAX_FLAG_ROWS);
  const flagRows = placed.reduce((rows, { row }) => Math.max(rows, row + 1), 0);

  const areaTop = 41 + titleLines.length * 31 + 26 + flagRows * FLAG_ROW;
  const areaBottom = areaTop + AREA_HEIGHT;
  const scales: Scales = { x, y: (share) => areaBottom - (share / 100) * AREA_HEIGHT };
  const barsTop = areaBottom + 74;
  const barsBottom = barsTop + BARS_HEIGHT;
  const foot = footLines(analysis, origin, flags.length - placed.length);

  return svg.document({
    width: WIDTH,
    height: barsBottom + 30 + foot.length * 16 + 14,
    title,
    description: describe(bands, flags),
    body: [
      ...head,
      svg.el('g', {}, areas(bands, scales)),
      svg.el('g', {}, shareAxis(scales)),
      svg.el('g', {}, yearAxis(analysis, scales, areaBottom)),
      svg.el('g', {}, bandLabels(bands, scales, areaTop, areaBottom)),
      svg.el('g', {}, placed.map((item) => drawFlag(item, scales, areaTop)).join('')),
      svg.el('g', {}, totals(analysis, scales, barsTop, barsBottom)),
      ...foot.map((line, i) => svg.label(PAD, barsBottom + 42 + i * 16, line, { size: 11.5, fill: svg.MUTED })),
    ],
  });
}

function stack(analysis: IowaAnalysis): Band[] {
  const height = analysis.years.map(() => 0);
  let other = 0;
  return trends(analysis).map((trend) => {
    const readings = analysis.readings.filter((reading) => reading.source === trend.source);
    const edges = readings.map((reading, i) => {
      const lower = height[i]!;
      height[i] = lower + reading.sharePct;
      return [lower, height[i]!] as const;
    });
    const color = MEANT.get(trend.source) ?? OTHERS[other++ % OTHERS.length]!;
    return { ...trend, color, edges, readings };
  });
}

function areas(bands: readonly Band[], { x, y }: Scales): string {
  return bands
    .map(({ edges, readings, color }) => {
      const at = readings.length === 1 ? [LEFT, RIGHT] : readings.map(({ year }) => x(year));
      const pair = (i: number) => edges[Math.min(i, edges.length - 1)]!;
      const upper = at.map((left, i) => `${svg.px(left)} ${svg.px(y(pair(i)[1]))}`);
      const lower = at.map((left, i) => `${svg.px(left)} ${svg.px(y(pair(i)[0]))}`).reverse();
      const d = `M${[...upper, ...lower].join('L')}Z`;
      return svg.el('path', {
        d,
        fill: color.fill,
        stroke: svg.PAPER,
        'stroke-width': 1.5,
        'stroke-linejoin': 'round',
      });
    })
    .join('');
}

function shareAxis({ y }: Scales): string {
  return [0, 25, 50, 75, 100]
    .map((share) => {
      const line = { x1: LEFT, x2: RIGHT, y1: y(share), y2: y(share) };
      // Over the areas a white hairline; a dark one would cut them up.
      const inside = share > 0 && share < 100;
      return (
        svg.el('line', {
          ...line,
          stroke: inside ? svg.PAPER : svg.MUTED,
          'stroke-opacity': inside ? 0.45 : share === 0 ? 1 : 0,
        }) +
        svg.label(LEFT - 10, y(share) + 4.5, share === 100 ? '100%' : String(share), {
          anchor: 'end',
          fill: svg.MUTED,
        })
      );
    })
    .join('');
}

/** Every year where there is room, else every second, fifth, tenth. */
function yearAxis({ years }: IowaAnalysis, { x }: Scales, top: number): string {
  const [first, last] = [years[0]!.year, years[years.length - 1]!.year];
  const perYear = first === last ? RIGHT - LEFT : x(first + 1) - x(first);
  const step = [1, 2, 5, 10, 20, 50, 100].find((every) => every * perYear >= 64) ?? 1000;
  const shown = years
    .map(({ year }) => year)
    .filter((year) => year === last || ((year - first) % step === 0 && (last - year) * perYear >= 48));
  return shown
    .map(
      (year) =>
        svg.el('line', { x1: x(year), x2: x(year), y1: top, y2: top + 5, stroke: svg.MUTED }) +
        svg.label(x(year), top + 21, String(year), { anchor: 'middle', fill: svg.MUTED }),
    )
    .join('');
}

function bandLabels(bands: readonly Band[], { y }: Scales, top: number, bottom: number): string {
  const twoLines = bands.length * 40 <= bottom - top;
  const middles = bands.map(({ edges }) => {
    const [lower, upper] = edges[edges.length - 1]!;
    return y((lower + upper) / 2);
  });
  const placed = svg.spread(middles, twoLines ? 40 : 18, top + 12, bottom - 12);
  return bands
    .map(({ source, first, last, color }, i) => {
      const at = placed[i]!;
      const left = RIGHT + 22;
      const leader = svg.el('path', {
        d: `M${svg.px(RIGHT + 4)} ${svg.px(middles[i]!)}L${svg.px(RIGHT + 17)} ${svg.px(at)}`,
        stroke: color.fill,
        'stroke-width': 1.5,
        fill: 'none',
      });
      const share = ` ${percent(last.sharePct)}`;
      const room = WIDTH - 14 - left;
      const name = svg.ellipsize(source, room - svg.textWidth(share, 15, 700), 15, 700) + share;
      const style = { size: 15, weight: 700, fill: color.text } as const;
      if (!twoLines || first.year === last.year) return leader + svg.label(left, at + 5, name, style);
      const from = `${percent(first.sharePct)} in ${first.year}`;
      return leader + svg.label(left, at - 2, name, style) + svg.label(left, at + 15, from, { fill: svg.MUTED });
    })
    .join('');
}

interface AnomalyFlag extends Flag {
  readonly reading: IowaReading;
  readonly before: IowaReading;
  /** The edges that moved, in percent: in the year before and in this year. Of a band between two others, both. */
  readonly edges: ReadonlyArray<readonly [number, number]>;
  /** Where the pole ends, in percent: on the edge that moved, or in the middle of the band. */
  readonly mark: number;
}

/** The strongest first, so that these find room first. */
function anomalyFlags({ baselines }: IowaAnalysis, bands: readonly Band[], x: Scales['x']): AnomalyFlag[] {
  return bands
    .flatMap((band, at) =>
      band.readings.flatMap((reading, i): AnomalyFlag[] => {
        if (reading.status !== 'anomaly' || i === 0) return [];
        const usual = baselines.find(({ source }) => source === band.source)?.medianPp ?? 0;
        // The lowest band starts at 0 % in each year and the topmost ends at 100 %: there only one edge moves.
        const sides =
          bands.length === 1 || at === 0 ? [1 as const] : at === bands.length - 1 ? [0 as const] : ([0, 1] as const);
        const now = band.edges[i]!;
        const points = `${signed(reading.shareChangePp ?? 0, 1)} points in one year`;
        const score = Math.abs(reading.score ?? 0).toFixed(1);
        return [
          {
            reading,
            before: band.readings[i - 1]!,
            edges: sides.map((side) => [band.edges[i - 1]![side], now[side]] as const),
            mark: sides.length === 2 ? (now[0] + now[1]) / 2 : now[sides[0]!],
            x: x(reading.year),
            lines: [
              { text: `${reading.year}: ${reading.source} ${points}`, size: 14, weight: 600 },
              {
                text: `usual ${signed(usual, 1)}; ${score} robust σ away, an anomaly beyond ${ANOMALY_SIGMAS}`,
                size: 12.5,
                weight: 400,
              },
            ],
          },
        ];
      }),
    )
    .sort((a, b) => Math.abs(b.reading.score ?? 0) - Math.abs(a.reading.score ?? 0));
}

function drawFlag(
  { flag, row, side }: ReturnType<typeof placeFlags<AnomalyFlag>>[number],
  { x, y }: Scales,
  areaTop: number,
): string {
  const top = areaTop - 8 - (row + 1) * FLAG_ROW;
  const mark = y(flag.mark);
  const textX = side === 'right' ? flag.x + FLAG_GAP : flag.x - FLAG_GAP;
  const anchor = side === 'right' ? 'start' : 'end';
  const steps = flag.edges.map(
    ([from, to]) => `M${svg.px(x(flag.before.year))} ${svg.px(y(from))}L${svg.px(flag.x)} ${svg.px(y(to))}`,
  );
  return [
    svg.el('line', { x1: flag.x, x2: flag.x, y1: top, y2: mark - 6, stroke: svg.INK, 'stroke-width': 1.2 }),
    svg.el('path', {
      d: steps.join(''),
      stroke: svg.INK,
      'stroke-width': 3.5,
      'stroke-linecap': 'round',
      fill: 'none',
    }),
    svg.el('circle', { cx: flag.x, cy: mark, r: 5.5, fill: svg.PAPER, stroke: svg.INK, 'stroke-width': 2.5 }),
    ...flag.lines.map(({ text, size, weight }, i) =>
      svg.label(textX, top + 12 + i * 17, text, { size, weight, anchor, fill: i === 0 ? svg.INK : svg.MUTED }),
    ),
  ].join('');
}

/** Bars over the same years, in TWh: shares alone would hide how much there is to share. */
function totals({ years }: IowaAnalysis, { x }: Scales, top: number, bottom: number): string {
  const [first, last] = [years[0]!, years[years.length - 1]!];
  const largest = years.reduce((a, b) => (b.total > a.total ? b : a));
  const spacing = first.year === last.year ? 80 : x(first.year + 1) - x(first.year);
  const width = Math.max(1, Math.min(28, spacing * 0.62));
  const growths = years.filter((year) => year.totalGrowthPct !== null);
  const strongest = growths.reduce((a, b) => (b.totalGrowthPct! > a.totalGrowthPct! ? b : a), growths[0]!);
  const overall =
    first === last || first.total === 0
      ? ''
      : `: ${signed(100 * (last.total / first.total - 1), 0)}% from ${first.year} to ${last.year}`;
  const year =
    strongest && first !== last ? `; strongest year ${strongest.year}, ${signed(strongest.totalGrowthPct!, 1)}%` : '';
  const bars = years.map((item) => {
    const height = ((bottom - top) * item.total) / largest.total;
    // The figure of the largest is left out where it would touch that of the first or the last.
    const apart = [first, last].every((end) => Math.abs(x(end.year) - x(largest.year)) >= 40);
    const named = item === first || item === last || (item === largest && apart);
    const value = (item.total / 1000).toFixed(1);
    const bar = svg.el('rect', {
      x: x(item.year) - width / 2,
      y: bottom - height,
      width,
      height,
      rx: 1.5,
      fill: named ? '#7d8891' : '#c9ced2',
    });
    return named ? bar + svg.label(x(item.year), bottom - height - 5, value, { size: 12, anchor: 'middle' }) : bar;
  });
  return [
    svg.el(
      'text',
      { x: LEFT - 14, y: top - 24, 'font-size': 13, fill: svg.INK, 'font-weight': 600 },
      `Total net generation, TWh${svg.el('tspan', { 'font-weight': 400, fill: svg.MUTED }, svg.escapeXml(overall + year))}`,
    ),
    ...bars,
    svg.el('line', { x1: LEFT - 14, x2: RIGHT + 14, y1: bottom, y2: bottom, stroke: svg.MUTED }),
  ].join('');
}

function footLines({ rows, incompleteYears, baselines }: IowaAnalysis, origin: Origin, leftOut: number): string[] {
  const scored = baselines.some(({ sigmaPp }) => sigmaPp !== null);
  const notes = [
    scored
      ? `Anomaly: a year’s change of share more than ${ANOMALY_SIGMAS} robust σ (1.4826 × median absolute deviation) from the source’s median change.`
      : 'No anomalies are marked: there are too few years to say what is usual.',
    leftOut > 0 ? `${plural(leftOut, 'more anomaly', 'more anomalies')} in the table.` : '',
    rows.skipped > 0 ? `${plural(rows.skipped, 'bad row')} of ${rows.read} skipped.` : '',
    incompleteYears.length > 0 ? `Left out as incomplete: ${incompleteYears.map(({ year }) => year).join(', ')}.` : '',
  ];
  const licence = origin.licence === null ? '' : ` Licence: ${origin.licence}.`;
  return [
    ...svg.wrap(notes.filter(Boolean).join(' '), WIDTH - 2 * PAD, 11.5, 3),
    ...svg.wrap(`Source: ${origin.source}.${licence}`, WIDTH - 2 * PAD, 11.5, 3),
  ];
}

function describe(bands: readonly Band[], flags: readonly AnomalyFlag[]): string {
  const shares = bands.map(
    ({ source, first, last }) =>
      `${source}: ${first.sharePct.toFixed(1)}% in ${first.year}, ${last.sharePct.toFixed(1)}% in ${last.year}`,
  );
  const anomalies = flags.map(({ lines }) => lines[0]!.text);
  return `Stacked area chart. ${shares.join('; ')}. Anomalies: ${anomalies.join('; ') || 'none'}.`;
}
