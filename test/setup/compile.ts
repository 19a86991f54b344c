// Loads what masters and workers load, and ends in order: a process that is killed does not keep what it has compiled, and
// nearly all processes of tests are killed.
await Promise.all([import('@baton/master'), import('@baton/worker')]);
