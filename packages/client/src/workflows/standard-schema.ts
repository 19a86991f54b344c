/**
 * The part of the Standard Schema interface (standardschema.dev, version 1) that Baton uses. Any library that implements
 * it (zod, valibot, arktype, …) can describe a task's input and output; none is a dependency.
 */
export interface StandardSchema<Input = unknown, Output = Input> {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>;
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
  };
}

export type SchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly SchemaIssue[] };

export interface SchemaIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/** A value does not fit its schema. `issues` has everything that is wrong, each with its path (`a.b[0]`; '' is the whole). */
export class SchemaMismatch extends Error {
  override readonly name = 'SchemaMismatch';
  readonly issues: readonly { readonly path: string; readonly message: string }[];

  constructor(what: string, issues: readonly SchemaIssue[]) {
    const flat = issues.map((issue) => ({ path: pathText(issue.path ?? []), message: issue.message }));
    super(`${what}: ${flat.map(({ path, message }) => (path === '' ? message : `${path}: ${message}`)).join('; ')}`);
    this.issues = flat;
  }
}

/**
 * The value as the schema gives it back (defaults filled in, transforms applied); the value itself without a schema.
 * Throws `SchemaMismatch`; `what` opens its message, e.g. `input of task "resize"`.
 */
export async function parseWith<Input, Output>(
  schema: StandardSchema<Input, Output> | undefined,
  value: unknown,
  what: string,
): Promise<Output> {
  if (schema === undefined) return value as Output;
  const result = await schema['~standard'].validate(value);
  if (result.issues !== undefined) throw new SchemaMismatch(what, result.issues);
  return result.value;
}

function pathText(path: NonNullable<SchemaIssue['path']>): string {
  let text = '';
  for (const part of path) {
    const key = typeof part === 'object' ? part.key : part;
    if (typeof key === 'number') text += `[${key}]`;
    else text += text === '' ? String(key) : `.${String(key)}`;
  }
  return text;
}
