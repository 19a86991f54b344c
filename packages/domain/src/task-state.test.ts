import { describe, expect, it } from 'vitest';
import { isTerminal, mayMove, TASK_STATES, TASK_TRANSITIONS, TERMINAL_STATES } from './task-state.ts';

describe('the life of a task', () => {
  it('never leaves an end', () => {
    for (const end of TERMINAL_STATES) {
      for (const to of TASK_STATES) expect(mayMove(end, to), `${end} → ${to}`).toBe(false);
      expect(isTerminal(end)).toBe(true);
    }
  });

  it('succeeds only from a lease, and fails from a lease or when nobody took it in time', () => {
    for (const from of TASK_STATES) {
      expect(mayMove(from, 'succeeded')).toBe(from === 'leased');
      expect(mayMove(from, 'failed')).toBe(from === 'leased' || from === 'ready');
    }
  });

  it('reaches every state from the beginning, and an end from every state', () => {
    const reach = (start: keyof typeof TASK_TRANSITIONS) => {
      const seen = new Set<string>([start]);
      const todo = [start];
      for (let at = todo.pop(); at; at = todo.pop())
        for (const next of TASK_TRANSITIONS[at])
          if (!seen.has(next)) {
            seen.add(next);
            todo.push(next);
          }
      return seen;
    };
    expect([...reach('none')].sort()).toEqual(['none', ...TASK_STATES].sort());
    for (const state of TASK_STATES)
      expect(
        [...reach(state)].some((s) => isTerminal(s as never)),
        state,
      ).toBe(true);
  });
});
