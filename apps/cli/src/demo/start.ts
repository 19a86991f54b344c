import { relative } from 'node:path';
import type { RunView } from '@baton/client';
import { EXIT } from '../exit.ts';
import { batonCommand, lookAtRuns, showBanner, type Try } from '../up/banner.ts';
import type { StackAddresses } from '../up/stack.ts';
import { stayUntilStopped } from '../up/stay.ts';
import { type DataFound, dataWords, findData } from './data-found.ts';
import { DEMO_TASKS, DemoInterrupted, type DemoStack, withDemoStack } from './demo-stack.ts';
import { energyDefinition, energyFigures, energyOutputs } from './energy.ts';
import { followMasterCode } from './follow-master-code.ts';
import type { DemoOptions } from './options.ts';
import { runPipeline } from './pipeline.ts';

interface StartOptions extends DemoOptions {
  /** Follow edits of the tasks and of the master. */
  readonly watch: boolean;
}

/** `npm start`, and `npx turbo run dev`. Stays until it is stopped; the exit code. */
export async function start(options: StartOptions): Promise<number> {
  const { context, root, out, watch } = options;
  const home = context.config.home.value;
  context.screen.note({ text: `Baton starts in ${home} …`, style: 'dim' });
  try {
    await withDemoStack({ ...options, home, port: context.config.port.value }, async (demo) => {
      const found = await findData(demo.addresses.postgres.url);
      const definition = await energyDefinition(root, demo.energy, relative(root, out) || out);
      const run = await runPipeline(context, demo.baton, definition, demo.signal);
      const news = await newsOf(run, out, found);
      const { addresses, logDir } = demo;
      const tries = triesOf(addresses, home, context.env.PATH);
      showBanner(context.screen, { addresses, home, logDir, others: otherAddresses(demo), news, tries });
      const stopFollowing = watch ? followMasterCode(root, demo.stack, context.screen) : undefined;
      if (watch)
        context.screen.note({
          text: `edit ${relative(root, options.tasks ?? DEMO_TASKS)}: it is live when it is saved`,
          style: 'dim',
        });
      await stayUntilStopped(demo.stack, demo.signals, context.screen);
      stopFollowing?.();
    });
  } catch (error) {
    if (!(error instanceof DemoInterrupted)) throw error;
    context.screen.note({ text: `${error.message}; everything is stopped`, style: 'dim' });
  }
  return EXIT.ok;
}

function otherAddresses({ energy }: DemoStack): [string, string][] {
  return Object.entries(energy.services).map(([id, { address, pid }]) => [id, `${address}   gRPC, pid ${pid}`]);
}

async function newsOf(run: RunView, out: string, found: DataFound): Promise<[string, string][]> {
  const before: [string, string] = ['found', dataWords(found)];
  const seconds = run.startTime && run.endTime ? (run.endTime.getTime() - run.startTime.getTime()) / 1_000 : undefined;
  const headline: [string, string] = [
    'run',
    `${run.id} ${run.state}${seconds === undefined ? '' : ` in ${seconds} s`}`,
  ];
  if (run.state !== 'succeeded') return [before, headline, ['failure', run.failureMessage ?? 'no reason was recorded']];
  const { finding } = await energyFigures(out);
  const { csv, summary, chart } = energyOutputs(out);
  return [before, headline, ['finding', finding], ['table', csv], ['summary', summary], ['chart', chart]];
}

/** Three commands that work as they stand; a test runs each. */
function triesOf(addresses: StackAddresses, home: string, path: string | undefined): Try[] {
  const { url } = addresses;
  return [
    {
      what: 'submit a task, as any program in any language may',
      command:
        `curl -s ${url}/baton.v1.TaskService/SubmitTask -H 'Content-Type: application/json' ` +
        `-d '{"task": {"kind": "hello", "input": {"name": "Ada"}}}'`,
    },
    { what: 'see what became of it', command: batonCommand(home, url, 'task list') },
    lookAtRuns(path, addresses, home),
  ];
}
