export * from './errors.ts';
export * from './fetch-handler.ts';
export * from './master-app.ts';
export * from './options.ts';
export * from './refusals-below.ts';
export * from './routes.ts';
