import { XMLParser, XMLValidator } from 'fast-xml-parser';
import { describe, expect, test } from 'vitest';
import { analyzeHouseholds } from '../analyzer/households.ts';
import { analyzeIowa } from '../analyzer/iowa.ts';
import { makeHouseholds } from '../generator/households.ts';
import { readIowa } from '../generator/iowa-source.ts';
import type { Origin } from '../readings.ts';
import { householdChart } from './household-chart.ts';
import { iowaChart } from './iowa-chart.ts';
import { textWidth } from './svg.ts';

const hostile = `<script>alert("&'")</script>]]>\u0007`;
const origin: Origin = {
  description: hostile,
  source: hostile,
  licence: hostile,
  place: hostile,
  sha256: null,
  synthetic: true,
};

interface Text {
  text: string;
  left: number;
  right: number;
  top: number;
  bottom: number;
}

/** Every text of the picture with the box it takes at most. */
function read(svg: string): { texts: Text[]; width: number; height: number; tags: Set<string> } {
  expect(XMLValidator.validate(svg)).toBe(true);
  const parser = new XMLParser({
    ignoreAttributes: false,
    preserveOrder: true,
    trimValues: false,
    processEntities: true,
  });
  const texts: Text[] = [];
  const tags = new Set<string>();
  const walk = (nodes: readonly XmlNode[]) => {
    for (const node of nodes) {
      const tag = tagOf(node);
      if (tag === '#text') continue;
      tags.add(tag);
      if (tag === 'text') texts.push(boxOf(node));
      else walk(node[tag] as XmlNode[]);
    }
  };
  const tree = parser.parse(svg) as XmlNode[];
  walk(tree);
  const root = tree.find((node) => tagOf(node) === 'svg')!;
  return { texts, tags, width: Number(attributeOf(root, 'width')), height: Number(attributeOf(root, 'height')) };
}

/** As the parser gives it in order: { tag: children, ':@': attributes } or { '#text': text }. */
type XmlNode = Record<string, unknown>;

const tagOf = (node: XmlNode) => Object.keys(node).find((key) => key !== ':@')!;
const attributeOf = (node: XmlNode, name: string) => (node[':@'] as Record<string, string> | undefined)?.[`@_${name}`];
const plainOf = (node: XmlNode): string => {
  const value = node[tagOf(node)];
  return Array.isArray(value) ? value.map((child) => plainOf(child as XmlNode)).join('') : String(value);
};

function boxOf(node: XmlNode): Text {
  const [x, y, size] = ['x', 'y', 'font-size'].map((name) => Number(attributeOf(node, name))) as [
    number,
    number,
    number,
  ];
  const text = plainOf(node);
  // Without the slack that textWidth adds: this is about real overlap, not about the estimate.
  const width = textWidth(text, size, Number(attributeOf(node, 'font-weight') ?? 400) as 400 | 600 | 700) / 1.08;
  const anchor = attributeOf(node, 'text-anchor') ?? 'start';
  const left = anchor === 'start' ? x : anchor === 'middle' ? x - width / 2 : x - width;
  return { text, left, right: left + width, top: y - size * 0.75, bottom: y + size * 0.2 };
}

function expectReadable(svg: string): Text[] {
  const { texts, width, height } = read(svg);
  for (const a of texts) {
    expect(a.left, a.text).toBeGreaterThanOrEqual(0);
    expect(a.right, a.text).toBeLessThanOrEqual(width);
    expect(a.bottom, a.text).toBeLessThanOrEqual(height);
    for (const b of texts) {
      if (a === b) continue;
      const apart = a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
      expect(apart, `"${a.text}" and "${b.text}" overlap`).toBe(true);
    }
  }
  return texts;
}

/** Shares in percent of three sources with long names over the given years. */
const rowsOf = (shares: readonly (readonly number[])[], sources: readonly string[], firstYear = 2001) =>
  shares.flatMap((row, i) => row.map((share, j) => [String(firstYear + i), sources[j]!, String(share * 100)]));

describe('the Iowa chart', () => {
  test('states the finding, labels each source and the anomaly, and names its source', async () => {
    const { rows, origin } = await readIowa();
    const texts = expectReadable(iowaChart(analyzeIowa(rows), origin)).map(({ text }) => text);
    expect(texts[0]).toBe('Renewables grew from 4% to 39% of Iowa’s electricity, 2001–2017');
    expect(texts).toEqual(expect.arrayContaining(['Renewables 39%', 'Nuclear Energy 9%', 'Fossil Fuels 52%']));
    expect(texts).toContain('2009: Renewables +7.0 points in one year');
    expect(texts.join(' ')).toContain('Source: U.S. Energy Information Administration; npm vega-datasets');
  });

  test('names from the data are text, never markup', () => {
    const analysis = analyzeIowa(
      rowsOf(
        [
          [30, 70],
          [60, 40],
        ],
        [hostile, 'Coal'],
      ),
    );
    const svg = iowaChart(analysis, origin);
    expect(read(svg).tags).toEqual(new Set(['?xml', 'svg', 'title', 'desc', 'rect', 'text', 'g', 'path', 'line']));
    expect(svg).not.toContain('<script');
  });

  test.each([
    ['one year', rowsOf([[30, 70]], ['Wind', 'Coal'])],
    ['one source', rowsOf([[100], [100], [100]], ['Wind'])],
    [
      'two years',
      rowsOf(
        [
          [30, 70],
          [30, 70],
        ],
        ['Wind', 'Coal'],
      ),
    ],
    [
      'a source that is nothing',
      rowsOf(
        [
          [0, 100],
          [0, 100],
        ],
        ['Wind', 'Coal'],
      ),
    ],
    [
      'the largest total next to the last',
      [
        ...rowsOf(
          Array.from({ length: 50 }, () => [30, 70]),
          ['Wind', 'Coal'],
        ).slice(0, -4),
        ...[2049, 2050].flatMap((year) => [
          [String(year), 'Wind', year === 2049 ? '9000' : '3000'],
          [String(year), 'Coal', '7000'],
        ]),
      ],
    ],
    [
      'twelve sources with long names, sixty years',
      rowsOf(
        Array.from({ length: 60 }, (_, y) => Array.from({ length: 12 }, (_, s) => 1 + ((y * 7 + s * 11) % 13))),
        Array.from({ length: 12 }, (_, s) => `Source of electricity with a long name, number ${s + 1}`),
        1950,
      ),
    ],
    [
      'anomalies close to one another, the last at the edge',
      rowsOf(
        Array.from({ length: 30 }, (_, y) => {
          const wind =
            20 + y * 0.5 + (y % 3) * 0.2 + (y > 10 ? 8 : 0) + (y > 11 ? 9 : 0) + (y > 13 ? -12 : 0) + (y > 28 ? 20 : 0);
          return [wind, 100 - wind];
        }),
        ['Wind', 'Coal'],
      ),
    ],
  ])('%s: no text is clipped or lies on another', (_, rows) => {
    expectReadable(iowaChart(analyzeIowa(rows), { ...origin, place: 'Iowa', source: 'x', licence: null }));
  });
});

describe('the household chart', () => {
  test('states the finding, the threshold, and a row for each household', () => {
    const { rows, origin } = makeHouseholds({ households: 12, hours: 168, seed: 42 });
    const analysis = analyzeHouseholds(rows);
    const texts = expectReadable(householdChart(analysis, origin)).map(({ text }) => text);
    const worst = analysis.households.reduce((a, b) => (b.anomalies > a.anomalies ? b : a));
    expect(texts[0]).toBe(`${worst.household} has ${worst.anomalies} of the 20 anomalies among 2\u202f006 readings`);
    expect(texts).toContain('threshold 0.1');
    for (const { household } of analysis.households) expect(texts).toContain(household);
    expect(texts.join(' ')).toContain('10 bad rows skipped');
    expect(texts.join(' ')).toContain('planted on purpose');
  });

  test('of many households it shows those with most anomalies, and says so', () => {
    const { rows, origin } = makeHouseholds({ households: 100, hours: 40, seed: 5 });
    const texts = expectReadable(householdChart(analyzeHouseholds(rows), origin)).map(({ text }) => text);
    expect(texts.join(' ')).toContain('Shown are the 24 households with the most anomalies.');
  });

  test.each([
    ['one reading', [['2026-01-05T00:00Z', 'H1', '90', '100', '1']]],
    ['an efficiency far above 1', [['2026-01-05T00:00Z', 'H1', '900', '100', '1']]],
    ['an efficiency of 0', [['2026-01-05T00:00Z', 'H1', '0', '100', '1']]],
    ['a hostile, long name', [['2026-01-05T00:00Z', hostile + 'x'.repeat(300), '90', '100', '1']]],
  ])('%s: no text is clipped or lies on another', (_, rows) => {
    const svg = householdChart(analyzeHouseholds(rows), { ...origin, source: 'x', description: 'y' });
    expectReadable(svg);
    expect(svg).not.toContain('<script');
  });
});
