export * from './fetch-handler.ts';
export * from './master-app.ts';
export * from './routes.ts';
export * from './wire/errors.ts';
export * from './wire/options.ts';
export * from './wire/refusals-below.ts';
