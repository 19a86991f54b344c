import { ANOMALY_BELOW, type HouseholdAnalysis, type HouseholdSummary } from '../analyzer/households.ts';
import type { Origin } from '../readings.ts';
import { anomalyCount, householdFinding } from './household-report.ts';
import { grouped, plural } from './numbers.ts';
import * as svg from './svg.ts';

const WIDTH = 960;
const PAD = 32;
const LEFT = 132;
const RIGHT = WIDTH - 190;
const ROW = 27;
const MAX_ROWS = 24;
const MAX_RADIUS = 11;
/** Readings are gathered in bins of this efficiency; 0.1 is the edge of one. */
const BIN = 0.02;
const MAX_EFFICIENCY = 1.5;

const DOT_RADIUS = 4;

interface Strip {
  /** Normal readings: how many in each bin, in order. */
  readonly bubbles: ReadonlyArray<{ readonly bin: number; readonly count: number }>;
  /** The efficiencies of the anomalies. Those too near to one another to be told apart are drawn once. */
  readonly dots: readonly number[];
}

/**
 * One row per household. Normal readings are bubbles, one per bin of efficiency, whose area is their number; anomalies,
 * which are few and matter one by one, are a dot each.
 */
export function householdChart(analysis: HouseholdAnalysis, origin: Origin): string {
  const title = householdFinding(analysis);
  const shown = choose(analysis.households);
  const strips = new Map(shown.map(({ household }) => [household, strip(analysis, household)]));
  const largest = [...strips.values()].reduce(
    (most, { bubbles }) => bubbles.reduce((more, { count }) => Math.max(more, count), most),
    1,
  );
  const highest = analysis.readings.reduce((most, { efficiency }) => Math.max(most, efficiency), 1);
  const domain = Math.min(MAX_EFFICIENCY, Math.ceil(highest * 10 - 1e-9) / 10);
  const x = (efficiency: number) => LEFT + (efficiency / domain) * (RIGHT - LEFT);
  const radius = (count: number) => Math.max(1.8, MAX_RADIUS * Math.sqrt(count / largest));

  const titleLines = svg.wrap(title, WIDTH - 2 * PAD, 25, 2, 700);
  const subtitle = `Efficiency = power ÷ (voltage × current), by household; an anomaly is a reading below ${ANOMALY_BELOW}`;
  const headBottom = 41 + titleLines.length * 31;
  const top = headBottom + 54;
  const bottom = top + shown.length * ROW;
  const foot = footLines(analysis, origin, shown.length);

  return svg.document({
    width: WIDTH,
    height: bottom + 92 + foot.length * 16 + 12,
    title,
    description: describe(analysis),
    body: [
      ...titleLines.map((line, i) => svg.label(PAD, 46 + i * 31, line, { size: 25, weight: 700 })),
      svg.label(PAD, headBottom, subtitle, { size: 15, fill: svg.MUTED }),
      svg.el('g', {}, frame(x, top, bottom, domain)),
      svg.el(
        'g',
        {},
        shown
          .map((household, i) => row(household, strips.get(household.household)!, top + (i + 0.5) * ROW, x, radius))
          .join(''),
      ),
      svg.el('g', {}, legend(largest, radius, bottom + 62)),
      ...foot.map((line, i) => svg.label(PAD, bottom + 100 + i * 16, line, { size: 11.5, fill: svg.MUTED })),
    ],
  });
}

/** All in order of their id, or, of many, those with the most anomalies. */
function choose(households: readonly HouseholdSummary[]): readonly HouseholdSummary[] {
  if (households.length <= MAX_ROWS) return households;
  return households.toSorted((a, b) => b.anomalies - a.anomalies).slice(0, MAX_ROWS);
}

function strip({ readings }: HouseholdAnalysis, household: string): Strip {
  const counts = new Map<number, number>();
  const dots = new Set<number>();
  const firstNormal = Math.round(ANOMALY_BELOW / BIN);
  const last = Math.round(MAX_EFFICIENCY / BIN) - 1;
  for (const reading of readings) {
    if (reading.household !== household) continue;
    if (reading.status === 'anomaly') {
      dots.add(Math.round(reading.efficiency * 1000) / 1000);
      continue;
    }
    // The status decides on which side of the threshold a reading lies, not the rounding of a division.
    const bin = Math.max(firstNormal, Math.min(last, Math.floor(reading.efficiency / BIN + 1e-9)));
    counts.set(bin, (counts.get(bin) ?? 0) + 1);
  }
  return {
    bubbles: [...counts].map(([bin, count]) => ({ bin, count })).sort((a, b) => a.bin - b.bin),
    dots: [...dots].sort((a, b) => a - b),
  };
}

function frame(x: (efficiency: number) => number, top: number, bottom: number, domain: number): string {
  const ticks = Array.from({ length: Math.floor(domain / 0.2 + 1e-9) + 1 }, (_, i) => i * 0.2);
  const limit = x(ANOMALY_BELOW);
  return [
    svg.el('rect', { x: LEFT, y: top, width: limit - LEFT, height: bottom - top, fill: '#fbe9de' }),
    ...ticks.map(
      (tick) =>
        svg.el('line', { x1: x(tick), x2: x(tick), y1: top, y2: bottom + 5, stroke: svg.RULE }) +
        svg.label(x(tick), bottom + 21, tick.toFixed(1), { anchor: 'middle', fill: svg.MUTED }),
    ),
    svg.el('line', {
      x1: limit,
      x2: limit,
      y1: top - 6,
      y2: bottom + 5,
      stroke: svg.VERMILLION.fill,
      'stroke-width': 1.5,
      'stroke-dasharray': '5 3',
    }),
    svg.label(limit + 6, top - 9, `threshold ${ANOMALY_BELOW}`, { size: 12.5, weight: 600, fill: svg.VERMILLION.text }),
    svg.label((LEFT + RIGHT) / 2, bottom + 40, 'efficiency', { anchor: 'middle', fill: svg.MUTED }),
    svg.label(RIGHT + 86, top - 9, 'median', { size: 12.5, anchor: 'end', fill: svg.MUTED }),
    svg.label(RIGHT + 164, top - 9, 'anomalies', { size: 12.5, anchor: 'end', fill: svg.MUTED }),
  ].join('');
}

function row(
  { household, anomalies, medianEfficiency }: HouseholdSummary,
  { bubbles, dots }: Strip,
  y: number,
  x: (efficiency: number) => number,
  radius: (count: number) => number,
): string {
  const weight = anomalies > 0 ? 600 : 400;
  return [
    svg.el('line', { x1: LEFT, x2: RIGHT, y1: y, y2: y, stroke: svg.RULE }),
    svg.label(LEFT - 16, y + 4.5, svg.ellipsize(household, LEFT - 16 - PAD, 13, weight), { anchor: 'end', weight }),
    ...bubbles.map(({ bin, count }) =>
      svg.el('circle', {
        cx: x((bin + 0.5) * BIN),
        cy: y,
        r: radius(count),
        fill: svg.BLUE.fill,
        'fill-opacity': 0.72,
        stroke: svg.PAPER,
        'stroke-width': 0.6,
      }),
    ),
    ...dots.map((efficiency) => dot(x(efficiency), y)),
    svg.label(RIGHT + 86, y + 4.5, medianEfficiency.toFixed(2), { anchor: 'end', fill: svg.MUTED }),
    svg.label(RIGHT + 164, y + 4.5, anomalies === 0 ? '–' : grouped(anomalies), {
      anchor: 'end',
      weight,
      fill: anomalies === 0 ? svg.MUTED : svg.VERMILLION.text,
    }),
  ].join('');
}

function dot(cx: number, cy: number): string {
  return svg.el('circle', {
    cx,
    cy,
    r: DOT_RADIUS,
    fill: svg.VERMILLION.fill,
    'fill-opacity': 0.85,
    stroke: svg.PAPER,
    'stroke-width': 0.8,
  });
}

function legend(largest: number, radius: (count: number) => number, y: number): string {
  const counts = [...new Set([1, Math.max(1, Math.round(largest / 4)), largest])];
  let left = LEFT;
  const parts = [dot(left + DOT_RADIUS, y), svg.label(left + 14, y + 4.5, 'one anomaly', { fill: svg.MUTED })];
  left += 14 + svg.textWidth('one anomaly', 13) + 28;
  for (const count of counts) {
    parts.push(svg.el('circle', { cx: left + radius(count), cy: y, r: radius(count), fill: svg.BLUE.fill }));
    left += 2 * radius(count) + 6;
    parts.push(svg.label(left, y + 4.5, grouped(count), { fill: svg.MUTED }));
    left += svg.textWidth(grouped(count), 13) + 16;
  }
  parts.push(svg.label(left, y + 4.5, `normal readings within ${BIN} of efficiency`, { fill: svg.MUTED }));
  return parts.join('');
}

function footLines(analysis: HouseholdAnalysis, origin: Origin, shown: number): string[] {
  const { rows, households } = analysis;
  const notes = [
    `${plural(rows.used, 'reading')} of ${plural(households.length, 'household')}.`,
    rows.skipped > 0
      ? `${plural(rows.skipped, 'bad row')} skipped: ${rows.skippedByReason.map(({ reason, rows }) => `${rows} × ${reason}`).join(', ')}.`
      : 'No bad rows.',
    shown < households.length ? `Shown are the ${shown} households with the most anomalies.` : '',
  ];
  const made = origin.synthetic ? ` ${origin.description}.` : '';
  return [
    ...svg.wrap(notes.filter(Boolean).join(' '), WIDTH - 2 * PAD, 11.5, 3),
    ...svg.wrap(`Source: ${origin.source}.${made}`, WIDTH - 2 * PAD, 11.5, 3),
  ];
}

function describe(analysis: HouseholdAnalysis): string {
  const affected = analysis.households
    .filter(({ anomalies }) => anomalies > 0)
    .map(({ household, anomalies }) => `${household} ${anomalies}`);
  return (
    `Efficiency of ${plural(analysis.readings.length, 'reading')} by household. ` +
    `${plural(anomalyCount(analysis), 'anomaly', 'anomalies')} below ${ANOMALY_BELOW}: ${affected.join(', ') || 'none'}.`
  );
}
