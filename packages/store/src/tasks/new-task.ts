/** 1: JSON text in UTF-8. 2: bytes of the user's own. */
export type Encoding = 1 | 2;

/** A task about to be stored. Everything is decided; the statement only writes. */
export interface NewTask {
  id: string;
  namespaceId: number;
  routeId: number;
  laneId: number;
  priority: number;
  maxAttempts: number;
  startToCloseMs: number;
  encoding: Encoding;
  input: Uint8Array | null;
  /** Wall clock, ms since the epoch; null: at once. */
  dueAtMs: number | null;
  idempotency: { scope: string; key: string; bodyHash: Uint8Array; ttlMs: number } | null;
  /** What most tasks do not have. */
  extra: {
    executor?: object;
    retry?: object;
    labels?: Record<string, string>;
    runId?: string;
    nodeId?: string;
    item?: number;
    retryOf?: string;
    principal?: string;
    scheduleToStartMs?: number;
    progressTimeoutMs?: number;
    /** SHA-256 (hex) of the blob that is the input. */
    inputBlob?: string;
  } | null;
}

/** Inputs up to this many bytes ride along in `ready`, so that the claim does not read `tasks`. */
export const INLINE_INPUT_BYTES = 1024;
