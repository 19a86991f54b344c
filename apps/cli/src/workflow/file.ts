import { existsSync, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { WorkflowDefinition } from '@baton/client';
import { checkWorkflowFile } from '@baton/client/workflow-file';
import type { Problem, WorkflowDefinition as ReadDefinition } from '@baton/domain';
import { CliFailure, EXIT } from '../exit.ts';
import type { Screen } from '../terminal/screen.ts';

/** A workflow file that was read, or everything that is wrong with it. */
export type WorkflowFile =
  | { readonly ok: true; readonly source: WorkflowDefinition; readonly definition: ReadDefinition }
  | { readonly ok: false; readonly problems: readonly Problem[] };

/** Reads and checks a workflow file, asking nobody. Throws a failure (not found) when there is no such file. */
export async function readWorkflowFile(path: string): Promise<WorkflowFile> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') throw new CliFailure(EXIT.notFound, `there is no file ${path}`);
    throw new CliFailure(EXIT.failed, `${path} cannot be read: ${code ?? String(error)}`, [], { cause: error });
  }
  const checked = checkWorkflowFile(decodeUtf8(path, bytes), { fileName: path });
  if (!checked.ok) return checked;
  // Checked means an object.
  return { ok: true, source: checked.value as WorkflowDefinition, definition: checked.definition };
}

/** Read leniently, names in another encoding would all become the same replacement character. */
function decodeUtf8(path: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    throw new CliFailure(EXIT.failed, `${path} is not UTF-8 text: save it as UTF-8`, [], { cause: error });
  }
}

/** A sound workflow file. Throws a failure after it has shown every problem. */
export async function soundWorkflowFile(path: string, screen: Screen): Promise<WorkflowDefinition> {
  const file = await readWorkflowFile(path);
  if (file.ok) return file.source;
  showProblems(file.problems, (text, style) => screen.note({ text, style }));
  throw brokenFile(path, file.problems);
}

export function brokenFile(path: string, problems: readonly Problem[]): CliFailure {
  const count = problems.length === 1 ? '1 problem' : `${problems.length} problems`;
  return new CliFailure(EXIT.failed, `${path} has ${count}`);
}

/** Each problem on two or three lines: where and which, what, and what to do. */
export function showProblems(
  problems: readonly Problem[],
  write: (text: string, style?: 'bold' | 'dim') => void,
): void {
  for (const { path, code, message, hint } of problems) {
    write(`${path}  ${code}`, 'bold');
    write(`  ${message}`);
    if (hint !== undefined) write(`  hint: ${hint}`, 'dim');
  }
}

/** What is there as a file, or looks like one, is one: a misspelt file name must not be taken for a workflow's. */
export function isFile(text: string): boolean {
  if (/\.(json|ya?ml)$/i.test(text) || /[/\\]/.test(text)) return true;
  return existsSync(text) && statSync(text).isFile();
}
