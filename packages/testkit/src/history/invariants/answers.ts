import type { Answer } from '../history.ts';

/** The caller was not who it had to be. */
export function isDenied(answer: Answer): boolean {
  return answer.outcome === 'fail' && (answer.code === 'permission_denied' || answer.code === 'unauthenticated');
}

/** The refusal says that the lease, or the session with all its leases, is over. */
export function isStale(answer: Answer): boolean {
  return answer.outcome === 'fail' && (answer.reason === 'LEASE_LOST' || answer.reason === 'SESSION_LOST');
}

const NO_VERDICT = ['unavailable', 'resource_exhausted', 'deadline_exceeded', 'canceled', 'aborted'];

/** Refused without a look at the lease: too busy, too late, or nobody there. */
export function isNoVerdict(answer: Answer): boolean {
  return answer.outcome !== 'ok' && NO_VERDICT.includes(answer.code ?? '');
}
