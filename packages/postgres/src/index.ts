export {
  type BackupManifest,
  type BackupOptions,
  type BackupSummary,
  backupPostgres,
  readBackupManifest,
} from './backup.ts';
export { POSTGRES_MAJOR } from './binaries.ts';
export { EmbeddedPostgresError, type EmbeddedPostgresReason } from './errors.ts';
export {
  type AbsentData,
  clearStalePidFile,
  type Inspection,
  inspectPostgres,
  type RunningServer,
  type StalePidFile,
  type StoppedServer,
} from './inspect.ts';
export type { Settings } from './launch.ts';
export { removePostgres } from './remove.ts';
export { type RestoreOptions, restorePostgres } from './restore.ts';
export { type EmbeddedPostgres, type StartOptions, startPostgres } from './start.ts';
export { type StopMode, type StopOptions, stopPostgres } from './stop.ts';
