import { buildRouteMap } from '@stricli/core';
import { command as artifact } from './artifact/command.ts';
import { command as blob } from './blob/command.ts';
import { command as checkpoint } from './checkpoint/command.ts';
import { command as config } from './config/command.ts';
import type { CliContext } from './context.ts';
import { command as db } from './db/command.ts';
import { command as doctor } from './doctor/command.ts';
import { command as events } from './events/command.ts';
import { command as init } from './init/command.ts';
import { command as master } from './master/command.ts';
import { command as queue } from './queue/command.ts';
import { command as run } from './run/command.ts';
import { command as status } from './status/command.ts';
import { command as stop } from './stop/command.ts';
import { command as task } from './task/command.ts';
import { command as up } from './up/command.ts';
import { command as version } from './version/command.ts';
import { command as worker } from './worker/command.ts';
import { command as workflow } from './workflow/command.ts';

/** The tree of commands. Each part loads its code when it is run. */
export const root = buildRouteMap<string, CliContext>({
  routes: {
    init,
    up,
    status,
    stop,
    workflow,
    run,
    task,
    checkpoint,
    artifact,
    blob,
    queue,
    events,
    worker,
    master,
    db,
    config,
    doctor,
    version,
  },
  docs: {
    brief: 'Durable task and workflow orchestration for machines you own',
    fullDescription: [
      'Durable task and workflow orchestration for machines you own.',
      '',
      'Data is written to stdout, everything else to stderr. Exit codes: 0 done, 1 failed,',
      '3 not found, 5 Baton cannot be reached, 64 wrong usage.',
      '',
      'EXAMPLES',
      '  baton up',
      '  baton workflow validate pipeline.yaml',
      '  baton run start pipeline.yaml --watch',
      '  baton task list -o json',
    ].join('\n'),
  },
});
