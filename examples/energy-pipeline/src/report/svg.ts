/** Text set in whatever sans-serif the reader has; widths below are those of Helvetica with some slack. */
export const FONT = "'Segoe UI', 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif";

export const INK = '#1f2933';
export const MUTED = '#5b6770';
export const RULE = '#dfe3e6';
export const PAPER = '#ffffff';

/** Colours that people with colour-blindness tell apart (after Okabe and Ito), and a darker one of each for text. */
export const BLUE = { fill: '#3b8fc4', text: '#1f6797' };
export const GREEN = { fill: '#009e73', text: '#00704f' };
export const ORANGE = { fill: '#e69f00', text: '#8f6200' };
export const VERMILLION = { fill: '#d55e00', text: '#b34a00' };
export const PURPLE = { fill: '#cc79a7', text: '#96447a' };
export const GREY = { fill: '#b9bfc4', text: '#59636b' };

export type Attributes = Readonly<Record<string, string | number | undefined>>;

/** Text for element content and attributes. Characters that XML 1.0 cannot hold become U+FFFD. */
export function escapeXml(text: string): string {
  return text
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|\p{Surrogate}/gu, '\ufffd')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;');
}

/** An element. `children` is SVG already (from `el` or `escapeXml`). Numbers are rounded to hundredths of a pixel. */
export function el(name: string, attributes: Attributes, children?: string): string {
  let text = `<${name}`;
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined) continue;
    text += ` ${key}="${typeof value === 'number' ? px(value) : escapeXml(value)}"`;
  }
  return children === undefined ? `${text}/>` : `${text}>${children}</${name}>`;
}

export interface TextStyle {
  readonly size?: number;
  readonly fill?: string;
  readonly weight?: 400 | 600 | 700;
  readonly anchor?: 'start' | 'middle' | 'end';
  /** A rim in the colour of the paper, for text on top of marks. */
  readonly halo?: boolean;
}

export function label(x: number, y: number, text: string, style: TextStyle = {}): string {
  const { size = 13, fill = INK, weight, anchor, halo } = style;
  const rim = halo ? { stroke: PAPER, 'stroke-width': 3, 'stroke-linejoin': 'round', 'paint-order': 'stroke' } : {};
  return el(
    'text',
    { x, y, 'font-size': size, fill, 'font-weight': weight, 'text-anchor': anchor, ...rim },
    escapeXml(text),
  );
}

/** At most two decimals, and never "-0". */
export function px(value: number): string {
  return String(Math.round(value * 100) / 100 || 0);
}

/** Advance widths of Helvetica and its like, in em, by the characters that have them. */
const WIDTHS: ReadonlyArray<readonly [number, string]> = [
  [0.25, "ijl|'’ .,:;/!ft[]I\u202f"],
  [0.35, 'r()-"“”`*{}'],
  [0.5, 'ckvsxyzJ'],
  [0.67, 'ABEKPSVXY&'],
  [0.73, 'CDHNRUw'],
  [0.78, 'GOQ'],
  [0.86, 'mM'],
  [0.95, 'W%'],
  [1, '@—…'],
];
const WIDTH_OF = new Map(WIDTHS.flatMap(([width, chars]) => [...chars].map((char) => [char, width])));
/** Other sans-serif fonts are up to this much wider. */
const SLACK = 1.08;

/** The width a line of text will take at most, in pixels: nothing here can ask the font. */
export function textWidth(text: string, size: number, weight: 400 | 600 | 700 = 400): number {
  let ems = 0;
  for (const char of text) ems += WIDTH_OF.get(char) ?? (char.codePointAt(0)! > 0x2e7f ? 1.05 : 0.58);
  return ems * size * SLACK * (weight === 400 ? 1 : 1.05);
}

/** Breaks text at plain spaces (not at those that bind) so that no line is wider than `width`; what cannot be broken is cut, and what is beyond `maxLines` too. */
export function wrap(text: string, width: number, size: number, maxLines: number, weight: 400 | 600 | 700 = 400) {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(/[ \n]+/).filter(Boolean)) {
    const longer = line === '' ? word : `${line} ${word}`;
    if (line === '' || textWidth(longer, size, weight) <= width) line = longer;
    else {
      lines.push(line);
      line = word;
    }
  }
  if (line !== '') lines.push(line);
  const kept = lines.slice(0, maxLines);
  if (lines.length > maxLines) kept[maxLines - 1] = `${kept[maxLines - 1]} …`;
  return kept.map((item) => ellipsize(item, width, size, weight));
}

/** Cuts text that is too wide, with an ellipsis at its end. */
export function ellipsize(text: string, width: number, size: number, weight: 400 | 600 | 700 = 400): string {
  if (textWidth(text, size, weight) <= width) return text;
  const chars = [...text];
  while (chars.length > 0 && textWidth(`${chars.join('')}…`, size, weight) > width) chars.pop();
  return `${chars.join('').trimEnd()}…`;
}

/** The whole picture. `title` and `description` are for screen readers and search engines. */
export function document(options: {
  width: number;
  height: number;
  title: string;
  description: string;
  body: readonly string[];
}): string {
  const { width, height, title, description, body } = options;
  const open = [
    '<svg xmlns="http://www.w3.org/2000/svg"',
    `width="${px(width)}" height="${px(height)}" viewBox="0 0 ${px(width)} ${px(height)}"`,
    `role="img" aria-labelledby="title description" font-family="${escapeXml(FONT)}">`,
  ].join(' ');
  return `${[
    '<?xml version="1.0" encoding="UTF-8"?>',
    open,
    el('title', { id: 'title' }, escapeXml(title)),
    el('desc', { id: 'description' }, escapeXml(description)),
    el('rect', { width, height, fill: PAPER }),
    ...body,
    '</svg>',
  ].join('\n')}\n`;
}

/**
 * Moves labels apart: given wished positions, returns positions in the same order which are at least `gap` apart and
 * within [min, max] as far as there is room. Labels that collide are spread around their common middle.
 */
export function spread(wished: readonly number[], gap: number, min: number, max: number): number[] {
  const order = wished.map((_, i) => i).sort((a, b) => wished[a]! - wished[b]! || a - b);
  type Cluster = { members: number[]; sum: number };
  const clusters: Cluster[] = [];
  const top = ({ members, sum }: Cluster) => {
    const length = (members.length - 1) * gap;
    return Math.max(min, Math.min(max - length, sum / members.length - length / 2));
  };
  for (const at of order) {
    clusters.push({ members: [at], sum: wished[at]! });
    while (clusters.length > 1) {
      const below = clusters[clusters.length - 1]!;
      const above = clusters[clusters.length - 2]!;
      if (top(above) + above.members.length * gap <= top(below)) break;
      clusters.splice(-2, 2, { members: [...above.members, ...below.members], sum: above.sum + below.sum });
    }
  }
  const placed: number[] = [];
  for (const cluster of clusters) for (const [i, at] of cluster.members.entries()) placed[at] = top(cluster) + i * gap;
  return placed;
}
