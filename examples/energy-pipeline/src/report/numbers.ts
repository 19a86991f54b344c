/** Numbers as the report states them. U+2212 is the minus sign that is as wide as a plus. */

/** "+7.0", "−0.2" */
export function signed(value: number, digits: number): string {
  const text = Math.abs(value).toFixed(digits);
  if (Number(text) === 0) return text;
  return `${value < 0 ? '\u2212' : '+'}${text}`;
}

/** "39%", and "0.4%" where a whole number would say nothing. */
export function percent(value: number): string {
  return `${value !== 0 && Math.abs(value) < 1 ? value.toFixed(1) : value.toFixed(0)}%`;
}

/** "56 476": thousands set apart by a thin space that does not break. */
export function grouped(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+(?!\d))/g, '\u202f');
}

/** For CSV: a fixed number of decimals, nothing for null. */
export function cell(value: number | null, digits: number): string {
  if (value === null) return '';
  const text = value.toFixed(digits);
  return Number(text) === 0 ? text.replace('-', '') : text;
}

/** For JSON: rounded, null stays null. */
export function rounded(value: number, digits: number): number;
export function rounded(value: number | null, digits: number): number | null;
export function rounded(value: number | null, digits: number): number | null {
  return value === null ? null : Number(cell(value, digits));
}

export function plural(count: number, one: string, many = `${one}s`): string {
  return `${grouped(count)} ${count === 1 ? one : many}`;
}
