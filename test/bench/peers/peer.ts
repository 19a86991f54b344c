import type postgres from 'postgres';

/** How another queue is driven beside Baton: the same work, by its own documented API. */
export interface Peer {
  /** What it keeps its jobs in. */
  readonly store: 'postgres' | 'redis';
  /** Ways of using it, by name; `default` is what its documentation shows first. */
  readonly variants: readonly string[];
  /** It marks all that waits as its own before it begins with the first: that is part of taking jobs. */
  readonly claimsAll?: boolean;
  /** What adds jobs, by so many connections at most. In a store that `isNew` it makes what it needs. */
  open(url: string, variant: string, connections: number, isNew: boolean): Promise<PeerClient>;
  /**
   * Whether jobs wait or run. Null: the store is not Postgres; `PeerClient.anyPending` answers.
   */
  anyPending: ((sql: postgres.Sql) => Promise<boolean>) | null;
  /**
   * Multiplies the one job that waits to so many, in SQL: loading is not what is measured. Null: jobs are added in bulk.
   */
  multiply: ((sql: postgres.Sql, jobs: number) => Promise<void>) | null;
  /** Connects a worker in this process, and takes jobs from then on. `onJob` is the job's code. Returns what ends it. */
  work(options: PeerWork, onJob: (data: JobData) => void): Promise<() => Promise<unknown>>;
  /** What has to be settled before `work`, and is no part of taking jobs. */
  prepare?(options: PeerWork): Promise<void>;
}

export interface PeerWork {
  readonly url: string;
  readonly variant: string;
  /** Jobs at once. */
  readonly slots: number;
  /** Of the process, from 0. */
  readonly index: number;
}

/** A small JSON document, as Baton's benchmark has; `sentNs` by the machine's monotonic clock, where it is asked for. */
export interface JobData {
  i: number;
  text: string;
  sentNs?: string;
}

export const JOB: JobData = { i: 12345, text: 'x'.repeat(32) };

export interface PeerClient {
  add(data: JobData): Promise<unknown>;
  /** Null: it has no way to add many in one call. */
  addMany: ((list: JobData[]) => Promise<unknown>) | null;
  anyPending?(): Promise<boolean>;
  close(): Promise<unknown>;
}
