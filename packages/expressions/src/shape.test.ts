import { expect, it } from 'vitest';
import { createExpressions } from './create-expressions.ts';
import { shapeOf } from './shape.ts';

/** Numbers from 0 up to 1, the same for the same seed. */
function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 4_294_967_296;
  };
}

it('a text with a comment has none', () => {
  const checked = createExpressions().check('true // not so\n && nodes.b.output', {});
  expect(checked).toEqual({ ok: true, nodes: ['b'] });
});

it('what a shape says of a text is what the text says of itself', () => {
  const random = seededRandom(7);
  const words =
    'nodes . a b output state failure input item index matrix run id [ ] ( ) { } "a" \'b c\' "output" 1 2.5 12 + - ! && || == ? : , in has true null map x NODE0 "NODE0" r"x" 1u .5 5. """z""" size'.split(
      ' ',
    );
  const sound = [
    'nodes.a.output.x > 1 && input.y == "z"',
    'nodes["a b"].state == \'failed\' || has(nodes.b.failure)',
    '[1, 2].map(x, nodes.a.output[0] + x) + [item.n, index]',
    'nodes.a["output"]["nodes"].b.output ? {"k": 1.5} : matrix.os',
  ];
  const [shaping, looking] = [createExpressions(), createExpressions()];
  let shaped = 0;
  let accepted = 0;
  for (let round = 0; round < 6_000; round++) {
    let text = sound[Math.floor(random() * sound.length)]!;
    const tokens = text.split(/(?<=[^\w])|(?=[^\w])/);
    for (let change = Math.floor(random() * 3); change > 0; change--) {
      tokens.splice(
        Math.floor(random() * tokens.length),
        Math.floor(random() * 2),
        words[Math.floor(random() * words.length)]!,
      );
    }
    text = tokens.join('');
    const shape = shapeOf(text);
    if (!shape) continue;
    shaped += 1;
    for (const items of [undefined, 'for_each', 'matrix'] as const) {
      // A comment makes a text that has no shape, and changes nothing else.
      const byShape = shaping.check(text, { items });
      const direct = looking.check(`${text} // ~\n`, { items });
      expect(byShape.ok, text).toBe(direct.ok);
      if (!byShape.ok || !direct.ok) continue;
      accepted += 1;
      expect([...byShape.nodes].sort(), text).toEqual([...direct.nodes].sort());
    }
  }
  expect(shaped).toBeGreaterThan(1_500);
  expect(accepted).toBeGreaterThan(1_000);
});
