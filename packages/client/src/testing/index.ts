/** For tests of code that uses a client: Baton's services in memory. */
export { FakeBaton } from './fake-baton.ts';
