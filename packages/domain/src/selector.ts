import type { CheckedExpression } from './definition/expressions.ts';
import type { JsonObject } from './definition/json.ts';

/**
 * The language of selectors (CEL over `worker` and `gpu`), which the vocabulary does not implement. Pure and bounded in time.
 */
export interface Selectors {
  /** Looks at a selector without evaluating it; `nodes` are the names that it uses. */
  check(text: string): CheckedExpression;
  /** It names `gpu`, so that it is asked of each device, and a worker without one never fits. */
  asksForDevice(text: string): boolean;
  /**
   * Whether this worker, with this device where it asks for one, is meant.
   *
   * @throws ExpressionError when it has no value: a key that is not there, types that do not fit, a limit
   */
  matches(text: string, worker: JsonObject, gpu: JsonObject | null): boolean;
}
