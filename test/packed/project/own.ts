import { task } from '@baton/client';

export const shout = task({
  id: 'shout',
  run: (input: { text: string }, ctx) => {
    ctx.log(`shouting ${input.text}`);
    return `${input.text.toUpperCase()}!`;
  },
});
