import { StepError } from './step.ts';

/** JSON for people and for diffs: objects and lists over several lines, a row of plain values on one. */
export function formatJson(value: unknown): string {
  return `${format(value, '')}\n`;
}

function format(value: unknown, indent: string): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const inner = `${indent}  `;
  if (Array.isArray(value)) {
    if (value.length === 0) return '[]';
    if (value.every(isPlain)) return JSON.stringify(value);
    return `[\n${value.map((item) => inner + (isRow(item) ? formatRow(item) : format(item, inner))).join(',\n')}\n${indent}]`;
  }
  const entries = Object.entries(value).filter(([, item]) => item !== undefined);
  if (entries.length === 0) return '{}';
  return `{\n${entries.map(([key, item]) => `${inner}${JSON.stringify(key)}: ${format(item, inner)}`).join(',\n')}\n${indent}}`;
}

function isPlain(value: unknown): boolean {
  return typeof value !== 'object' || value === null;
}

function isRow(value: unknown): value is object {
  return typeof value === 'object' && value !== null && Object.values(value).every(isPlain);
}

function formatRow(row: object): string {
  if (Array.isArray(row)) return JSON.stringify(row);
  const entries = Object.entries(row).filter(([, item]) => item !== undefined);
  return `{ ${entries.map(([key, item]) => `${JSON.stringify(key)}: ${JSON.stringify(item)}`).join(', ')} }`;
}

/**
 * Takes a value out of parsed JSON, checked. A wrong type is a `StepError` that says where: `readings[3].efficiency
 * must be a number, but is "high"`.
 */
export class Field {
  readonly value: unknown;
  readonly path: string;

  constructor(value: unknown, path = '') {
    this.value = value;
    this.path = path;
  }

  static parse(text: string): Field {
    try {
      return new Field(JSON.parse(text));
    } catch (error) {
      throw new StepError(`it is not JSON: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  at(key: string): Field {
    const record = this.record();
    return new Field(Object.hasOwn(record, key) ? record[key] : undefined, this.path ? `${this.path}.${key}` : key);
  }

  list(): Field[] {
    if (!Array.isArray(this.value)) return this.refuse('a list');
    return this.value.map((item, i) => new Field(item, `${this.path}[${i}]`));
  }

  record(): Record<string, unknown> {
    const { value } = this;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return this.refuse('an object');
    return value as Record<string, unknown>;
  }

  string(): string {
    return typeof this.value === 'string' ? this.value : this.refuse('a string');
  }

  number(): number {
    return typeof this.value === 'number' ? this.value : this.refuse('a number');
  }

  boolean(): boolean {
    return typeof this.value === 'boolean' ? this.value : this.refuse('true or false');
  }

  oneOf<const T extends string>(...allowed: readonly T[]): T {
    const value = this.string();
    return allowed.find((item) => item === value) ?? this.refuse(allowed.map((item) => `"${item}"`).join(' or '));
  }

  orNull<T>(read: (field: Field) => T): T | null {
    return this.value === null ? null : read(this);
  }

  private refuse(expected: string): never {
    const found = this.value === undefined ? 'is missing' : `is ${JSON.stringify(this.value)?.slice(0, 60)}`;
    throw new StepError(`${this.path || 'the file'} must be ${expected}, but ${found}`);
  }
}
