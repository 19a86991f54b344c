import { task } from '@baton/client';

const echo = (input: unknown) => input;

export const main = task({ id: 'echo-main', run: echo });
export const thread = task({ id: 'echo-thread', isolation: 'thread', run: echo });
export const process_ = task({ id: 'echo-process', isolation: 'process', run: echo });
