import { errorDetails } from '@baton/contract/grpc';
import { Refusal, type RefusalCode } from '@baton/domain';
import { create } from '@bufbuild/protobuf';
import { Code, ConnectError, type Interceptor } from '@connectrpc/connect';
import { durationFromMs } from '../messages/durations.ts';

const CODES: Record<RefusalCode, Code> = {
  invalid_argument: Code.InvalidArgument,
  not_found: Code.NotFound,
  already_exists: Code.AlreadyExists,
  failed_precondition: Code.FailedPrecondition,
  permission_denied: Code.PermissionDenied,
  resource_exhausted: Code.ResourceExhausted,
  unavailable: Code.Unavailable,
  unimplemented: Code.Unimplemented,
};

/** A refusal as clients see it: ErrorInfo always, BadRequest, RetryInfo and PreconditionFailure where they apply. */
export function toConnectError(refusal: Refusal): ConnectError {
  const details: ConnectError['details'] = [
    {
      desc: errorDetails.ErrorInfoSchema,
      value: { reason: refusal.reason, domain: 'baton', metadata: { ...refusal.metadata } },
    },
  ];
  if (refusal.violations.length > 0)
    details.push({
      desc: errorDetails.BadRequestSchema,
      value: create(errorDetails.BadRequestSchema, {
        fieldViolations: refusal.violations.map((v) => ({ field: v.field, description: v.description })),
      }),
    });
  if (refusal.retryAfterMs !== undefined)
    details.push({
      desc: errorDetails.RetryInfoSchema,
      value: create(errorDetails.RetryInfoSchema, { retryDelay: durationFromMs(refusal.retryAfterMs) }),
    });
  if (refusal.code === 'failed_precondition')
    details.push({
      desc: errorDetails.PreconditionFailureSchema,
      value: create(errorDetails.PreconditionFailureSchema, {
        violations: [{ type: refusal.reason, subject: '', description: refusal.message }],
      }),
    });
  const error = new ConnectError(refusal.message, CODES[refusal.code]);
  error.details = details;
  return error;
}

/** SQLSTATE classes and driver words that mean: Postgres is not there now. */
function isUnavailable(error: unknown): boolean {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' && /^(08|57P|53|CONNECT|ECONN|EPIPE|ETIMEDOUT)/.test(code);
}

/** Texts of filters and names are not looked at one by one: Postgres refuses what no column can have. */
function isUnstorableText(error: unknown): boolean {
  return ['22021', '22P05'].includes(String((error as { code?: unknown } | null)?.code));
}

/** One total converter: whatever a handler throws becomes a ConnectError; what nobody foresaw is reported and shown without its text. */
export function convertError(
  error: unknown,
  report: (error: unknown, where: string) => void,
  where: string,
): ConnectError {
  if (error instanceof ConnectError) return error;
  if (error instanceof Refusal) return toConnectError(error);
  if (isUnavailable(error)) {
    report(error, where);
    return toConnectError(
      new Refusal('unavailable', 'STORE_UNAVAILABLE', 'Postgres does not answer; try again', { retryAfterMs: 500 }),
    );
  }
  if (isUnstorableText(error))
    return toConnectError(
      new Refusal('invalid_argument', 'INVALID_REQUEST', 'a text contains NUL or a lone surrogate, which none may'),
    );
  if ((error as { code?: unknown } | null)?.code === '57014')
    return toConnectError(
      new Refusal('resource_exhausted', 'STATEMENT_TIMEOUT', 'Postgres took too long; ask for less'),
    );
  report(error, where);
  const internal = new ConnectError('internal error', Code.Internal);
  internal.details = [{ desc: errorDetails.ErrorInfoSchema, value: { reason: 'INTERNAL', domain: 'baton' } }];
  return internal;
}

export function errorInterceptor(report: (error: unknown, where: string) => void): Interceptor {
  return (next) => async (request) => {
    const where = `${request.service.typeName}/${request.method.name}`;
    try {
      const response = await next(request);
      if (!response.stream) return response;
      const message = response.message;
      return {
        ...response,
        message: (async function* () {
          try {
            yield* message;
          } catch (error) {
            throw convertError(error, report, where);
          }
        })(),
      };
    } catch (error) {
      throw convertError(error, report, where);
    }
  };
}
