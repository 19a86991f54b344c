/** How many skipped rows are listed one by one; all are counted. */
const LISTED = 50;

/** What became of the rows of a file. */
export interface RowCounts {
  readonly read: number;
  readonly used: number;
  readonly skipped: number;
  readonly skippedByReason: ReadonlyArray<{ readonly reason: string; readonly rows: number }>;
  /** The first skipped rows; `row` counts data rows from 1, the header left out. */
  readonly firstSkipped: ReadonlyArray<{ readonly row: number; readonly reason: string }>;
}

/** Keeps the ledger while rows are read. A row is used or skipped for exactly one reason. */
export class RowLedger {
  private used = 0;
  private readonly reasons = new Map<string, number>();
  private readonly listed: { row: number; reason: string }[] = [];
  private skipped = 0;

  use(): void {
    this.used++;
  }

  skip(row: number, reason: string): void {
    this.skipped++;
    this.reasons.set(reason, (this.reasons.get(reason) ?? 0) + 1);
    if (this.listed.length < LISTED) this.listed.push({ row, reason });
  }

  /** Reasons in order of frequency, then of the alphabet. */
  counts(): RowCounts {
    const byReason = [...this.reasons].map(([reason, rows]) => ({ reason, rows }));
    byReason.sort((a, b) => b.rows - a.rows || (a.reason < b.reason ? -1 : 1));
    return {
      read: this.used + this.skipped,
      used: this.used,
      skipped: this.skipped,
      skippedByReason: byReason,
      firstSkipped: this.listed,
    };
  }
}
