// Loads the module of its command line (with a configuration that makes programs give up), and ends in order: a process that is killed does not
// keep what it has compiled, and nearly all processes of tests are killed.
Object.assign(process.env, { BATON_PORT: 'none', BATON_WORKER_PORT: 'none' });
await import(process.argv[2] ?? '');
