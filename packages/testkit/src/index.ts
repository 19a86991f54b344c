export {
  NoTestServerError,
  startTestPostgres,
  type TestDatabase,
  type TestPostgres,
  testDatabase,
} from './database.ts';
