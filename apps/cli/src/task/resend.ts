import type { CliContext } from '../context.ts';
import { CliFailure, EXIT, usageError } from '../exit.ts';
import type { ResendFlags } from './failure-flags.ts';

/** Tasks of one call: what was sent is said soon, and their list is not kept whole. */
const AT_ONCE = 500;

/** `baton task resend [TASK…]`. */
export async function resend(this: CliContext, flags: ResendFlags, ...ids: string[]): Promise<void> {
  const { allDead, queue, kind, type, key } = flags;
  if (allDead === ids.length > 0) throw usageError('name tasks, or give --all-dead');
  if (!allDead && flags.again) throw usageError('--again goes with --all-dead');
  if (!allDead && (queue !== undefined || kind !== undefined || type !== undefined))
    throw usageError('--queue, --kind and --type go with --all-dead');
  const baton = await this.connect(flags);
  let sent = 0;
  let refused = 0;
  let skipped = 0;
  const all: object[] = [];
  const send = async (some: readonly string[]): Promise<void> => {
    for (const result of await baton.tasks.resend(some, { idempotencyKey: key, signal: this.signal })) {
      if (flags.output === 'json') all.push(result);
      if ('refused' in result) {
        refused++;
        this.screen.note({ text: `task ${result.of}: ${result.refused.message}`, style: 'red' });
      } else {
        sent++;
        const again = result.deduplicated ? ', as before' : '';
        if (flags.output !== 'json') this.screen.line(`task ${result.of} is sent again as ${result.taskId}${again}`);
      }
    }
  };
  if (allDead) {
    // What is sent again leaves this list: read first, page by page, then sent.
    const dead = await baton.tasks.dead({ queue, kind, types: type, pageSize: 1_000, signal: this.signal }).all();
    const first = flags.again ? dead : dead.filter(({ task }) => task.retryOf === undefined);
    ids = first.map(({ task }) => task.id);
    skipped = dead.length - first.length;
    if (skipped > 0)
      this.screen.note(
        `${skipped} tasks were sent again before, failed again, and are skipped; --again takes them too`,
      );
  }
  for (let from = 0; from < ids.length; from += AT_ONCE) await send(ids.slice(from, from + AT_ONCE));
  this.record({ sent, refused, skipped, all_dead: allDead, key });
  if (flags.output === 'json') this.screen.json(all);
  else if (ids.length === 0 && skipped === 0) this.screen.note('no such task has failed for good');
  if (refused > 0) throw new CliFailure(EXIT.failed, `${refused} of ${sent + refused} tasks were not sent again`);
}
