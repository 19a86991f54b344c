import {
  type CheckedExpression,
  ExpressionError,
  type JsonObject,
  MAX_EXPRESSION_LENGTH,
  type Selectors,
} from '@baton/domain';
import { type CelValue, isCelError, plan } from '@bufbuild/cel';
import { Kept, type Parsed, parseExpression, readable, withoutTraces } from './create-expressions.ts';
import { meteredEnvironment } from './functions.ts';
import type { Wrong } from './inspect.ts';
import { instrument } from './instrument.ts';
import { toCelValue } from './json-values.ts';
import { LimitReached, Meter } from './meter.ts';
import { SELECTOR_VOCABULARY } from './selector-vocabulary.ts';

/** Visits of parts of the selector in one evaluation: a millisecond or two. A worker with 10 000 kinds can still be looked through. */
const MOST_WORK = 50_000;

/** CEL over a worker and a device. Keeps what it has parsed; one is enough for a process. */
export function createSelectors({ keep = 1_000, maxWork = MOST_WORK } = {}): Selectors {
  const meter = new Meter();
  const environment = meteredEnvironment(meter);
  const known = new Kept<Parsed | Wrong>(keep);
  const parsed = (text: string) => known.get(text, () => parseExpression(text, SELECTOR_VOCABULARY));

  function check(text: string): CheckedExpression {
    if (text.length > MAX_EXPRESSION_LENGTH) return parseExpression(text, SELECTOR_VOCABULARY) as Wrong;
    const result = parsed(text);
    return 'inspected' in result ? { ok: true, nodes: result.inspected.nodes } : result;
  }

  return {
    check,
    asksForDevice(text) {
      const checked = check(text);
      return checked.ok && checked.nodes.includes('gpu');
    },
    matches(text, worker, gpu) {
      const result = parsed(text);
      if (!('inspected' in result)) throw new ExpressionError(result.message);
      if (!result.evaluation) {
        instrument(result.expr);
        result.evaluation = plan(environment, result.expr) as NonNullable<Parsed['evaluation']>;
      }
      const { evaluation } = result;
      meter.begin(maxWork);
      try {
        const value = withoutTraces(() => evaluation(bindings(worker, gpu)));
        if (meter.reached !== undefined) throw new ExpressionError(meter.reached);
        if (isCelError(value)) throw new ExpressionError(readable(value.message));
        if (typeof value !== 'boolean') throw new ExpressionError('its value is neither true nor false');
        return value;
      } catch (error) {
        if (error instanceof LimitReached) throw new ExpressionError(error.message);
        throw error;
      }
    },
  };

  function bindings(worker: JsonObject, gpu: JsonObject | null): Record<string, CelValue> {
    const bound: Record<string, CelValue> = Object.create(null);
    bound.worker = toCelValue(worker, meter);
    if (gpu) bound.gpu = toCelValue(gpu, meter);
    return bound;
  }
}
