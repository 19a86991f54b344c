// Two small tasks for the workers of `npm start`. Under `npx turbo run dev` an edit of this file is live when it is saved.
import { task } from '@baton/client';

export const hello = task({
  id: 'hello',
  run: (input: { name?: string } | undefined, ctx) => {
    ctx.log(`attempt ${ctx.attempt}`);
    return `Hello, ${input?.name ?? 'you'}!`;
  },
});

export const sum = task({
  id: 'sum',
  run: (numbers: number[]) => numbers.reduce((total, each) => total + each, 0),
});
