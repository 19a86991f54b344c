import type { Expressions } from '@baton/domain';
import { createExpressions } from '@baton/expressions';

/** The expressions of all definitions: it keeps nothing but what it has parsed, so that one serves every run. */
export const expressions: Expressions = createExpressions();
