export { createExpressions, type ExpressionsOptions } from './create-expressions.ts';
export { createSelectors } from './selectors.ts';
