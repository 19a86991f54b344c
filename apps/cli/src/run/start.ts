import { type Baton, JsonText, type WorkflowDefinition } from '@baton/client';
import type { CliContext } from '../context.ts';
import { usageError } from '../exit.ts';
import { inputOf, inputOfJson } from '../input.ts';
import { isFile, soundWorkflowFile } from '../workflow/file.ts';
import { followRun } from './follow.ts';
import type { StartFlags } from './run-flags.ts';
import { runStandalone } from './standalone.ts';

/** `baton run start FILE|NAME`. */
export async function start(this: CliContext, flags: StartFlags, workflow: string): Promise<void> {
  if (flags.input !== undefined && flags.inputJson !== undefined) {
    throw usageError('--input and --input-json are two ways to say the same; give one of them');
  }
  const input = flags.inputJson === undefined ? inputOf(flags.input) : inputOfJson(flags.inputJson);
  const source: string | WorkflowDefinition = isFile(workflow)
    ? await soundWorkflowFile(workflow, this.screen)
    : workflow;
  if (flags.standalone) {
    await runStandalone(this, flags, ({ baton, url }, signal) =>
      begin(this, baton, signal, flags, workflow, source, input, url),
    );
    return;
  }
  if (flags.tasks !== undefined) throw usageError('--tasks goes with --standalone: else the workers have the tasks');
  const baton = await this.connect(flags);
  await begin(this, baton, this.signal, flags, workflow, source, input);
}

async function begin(
  context: CliContext,
  baton: Baton,
  signal: AbortSignal | undefined,
  flags: StartFlags,
  workflow: string,
  source: string | WorkflowDefinition,
  input: ReturnType<typeof inputOf>,
  /** Of a Baton in this process, which nobody else knows of. */
  ownUrl?: string,
): Promise<void> {
  const { screen } = context;
  const run = await baton.runs.start(source, {
    input: input && new JsonText(input.json),
    idempotencyKey: flags.key,
    release: flags.release,
    signal,
  });
  context.record({ run_id: run.id, workflow, deduplicated: run.deduplicated });
  if (flags.watch || flags.standalone) {
    const where =
      ownUrl === undefined ? '' : `; while it goes on: baton run signal|get|cancel ${run.id} --url ${ownUrl}`;
    if (flags.output === 'table') screen.note({ text: `run ${run.id} started${where}`, style: 'dim' });
    await followRun(context, run.watch({ signal }), flags.output);
  } else if (flags.output === 'json') {
    screen.json({ id: run.id, deduplicated: run.deduplicated });
  } else {
    screen.line(run.id);
    const what = run.deduplicated ? 'was started before with this key' : 'started';
    screen.note({ text: `run ${run.id} ${what}; follow it: baton run watch ${run.id}`, style: 'dim' });
  }
}
