// Tasks that say when they began and ended, by the machine's one monotonic clock, which processes share.
import { setTimeout as sleep } from 'node:timers/promises';
import { task } from '@baton/client';

const now = () => Number(process.hrtime.bigint()) / 1e6;

export const held = async (ms: number) => {
  const began = now();
  await sleep(ms);
  return [began, now()];
};

export const main = task({ id: 'gap-main', run: held });
export const thread = task({ id: 'gap-thread', isolation: 'thread', run: held });
export const process_ = task({ id: 'gap-process', isolation: 'process', run: held });
