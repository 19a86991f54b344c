/** What is wrong, in words that name it. */
export interface Violation {
  readonly message: string;
  readonly taskId?: string;
  readonly runId?: string;
  readonly epoch?: number;
}

/** What the check of one invariant found. */
export interface InvariantResult {
  /** 1 to 18, as in the list of invariants. */
  readonly invariant: number;
  readonly name: string;
  /** How many facts could have broken it. 0: it says nothing about this history. */
  readonly exercised: number;
  /** The first of them, at most `MAX_VIOLATIONS`. */
  readonly violations: readonly Violation[];
  /** How many in all. */
  readonly violated: number;
  /** What of it could not be checked here, and why; null: all of it was. */
  readonly notApplicable: string | null;
}

export const MAX_VIOLATIONS = 100;

/** Gathers what the check of one invariant finds. */
export interface Findings {
  /** A fact that could have broken the invariant was looked at. */
  exercise(count?: number): void;
  violate(message: string, where?: Omit<Violation, 'message'>): void;
  /** A part of it cannot be checked in this history. */
  skip(reason: string): void;
  result(): InvariantResult;
}

export function findings(invariant: number, name: string): Findings {
  let exercised = 0;
  let violated = 0;
  const violations: Violation[] = [];
  const skipped: string[] = [];
  return {
    exercise(count = 1) {
      exercised += count;
    },
    violate(message, where = {}) {
      violated++;
      if (violations.length < MAX_VIOLATIONS) violations.push({ message, ...where });
    },
    skip(reason) {
      if (!skipped.includes(reason)) skipped.push(reason);
    },
    result: () => ({
      invariant,
      name,
      exercised,
      violations,
      violated,
      notApplicable: skipped.length > 0 ? skipped.join('; ') : null,
    }),
  };
}
