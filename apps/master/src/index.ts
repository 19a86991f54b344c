export { ConfigProblems, type MasterConfig, readConfig } from './config.ts';
export { openDatabase, postgresDataDir } from './database.ts';
export { dropHistory } from './drop-history.ts';
export { type Master, startMaster, VERSION } from './start.ts';
