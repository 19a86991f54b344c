export { createEdgeHandler, type EdgeContext, type EdgeHandler, type EdgeOptions } from './handler.ts';
