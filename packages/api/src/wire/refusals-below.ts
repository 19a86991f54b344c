import { errorDetails } from '@baton/contract/grpc';
import { type FieldViolation, Refusal } from '@baton/domain';
import { type DescMessage, fromJson, fromJsonString } from '@bufbuild/protobuf';
import { Code, ConnectError, type ConnectRouterOptions, type HandlerContext } from '@connectrpc/connect';
import { toConnectError } from './errors.ts';
import { jsonProblems } from './json-problems.ts';
import { violationsOf } from './validate.ts';

/** Connect's words for bytes that are no message of the type; it takes them for a fault of the server. */
const PARSE = 'parse binary:';
/** What a message that is nested without end comes to. */
const OVERFLOW = 'Maximum call stack size exceeded';

/** Options of a router: for the calls that Connect refuses before any interceptor sees them. */
export type RefusalsBelow = Required<Pick<ConnectRouterOptions, 'requestGate' | 'jsonOptions'>>;

/**
 * Connect decodes before it calls interceptors, and what it refuses there carries no reason. It aborts the call's signal with the
 * error right before it writes it in the words of the protocol that asked, and there each error gets what it lacks: ErrorInfo, the
 * code of a fault of the caller, and for JSON everything that is wrong with it. A call that goes well pays for one listener.
 */
export function refusalsBelow(): RefusalsBelow {
  const decoder = new TextDecoder();
  // The text last decoded: a unary call that cannot be decoded fails before any other text is.
  let last = '';
  return {
    jsonOptions: {
      // Connect ignores unknown JSON fields by default; here a typo in a hand-written request is an error that names it.
      ignoreUnknownFields: false,
      // Connect hands these options to its own reader, which takes a decoder.
      ...({ textDecoder: { decode: (bytes: Uint8Array) => (last = decoder.decode(bytes)) } } as object),
    },
    requestGate({ signal, method }: HandlerContext) {
      signal.addEventListener('abort', () => {
        if (signal.reason instanceof ConnectError) complete(signal.reason, method.input, last);
      });
    },
  };
}

/** Gives an error that has none a reason. @param text JSON that may be the request's: it is if it fails in the same way */
export function complete(error: ConnectError, input?: DescMessage, text?: string): ConnectError {
  if (error.details.some((detail) => typeName(detail) === 'google.rpc.ErrorInfo')) return error;
  let { code, rawMessage } = error;
  if (rawMessage.includes(OVERFLOW)) rawMessage = 'the message is nested too deep';
  else if (code === Code.Internal && rawMessage.startsWith(PARSE)) code = Code.InvalidArgument;
  const isJson = input && text && code === Code.InvalidArgument && isErrorOf(error, input, text);
  const found = isJson ? problemsOf(input, text) : undefined;
  if (found) rawMessage = found.rawMessage;
  const info = { reason: reasonOf(code, rawMessage), domain: 'baton', metadata: {} };
  // All protocols write these, which are read-only to handlers.
  return Object.assign(error, {
    code,
    rawMessage,
    message: `[${codeName(code)}] ${rawMessage}`,
    details: [...error.details, ...(found?.details ?? [{ desc: errorDetails.ErrorInfoSchema, value: info }])],
  });
}

function typeName(detail: ConnectError['details'][number]): string {
  return 'desc' in detail ? detail.desc.typeName : detail.type;
}

function isErrorOf(error: ConnectError, input: DescMessage, text: string): boolean {
  try {
    fromJsonString(input, text);
    return false;
  } catch (thrown) {
    return error.rawMessage === ConnectError.from(thrown, Code.InvalidArgument).rawMessage;
  }
}

/** All that is wrong with JSON: what cannot be decoded, and what breaks the contract's rules in the rest. */
function problemsOf(input: DescMessage, text: string): ConnectError | undefined {
  const found = jsonProblems(input, text);
  if (!found) return undefined;
  const violations: FieldViolation[] = [...found.problems];
  if (found.rest !== undefined) {
    const places = violations.map((v) => v.field);
    // What is missing from the rest may be what was left out of it.
    const isNew = ({ field }: FieldViolation) =>
      !places.some((place) => place === field || place.startsWith(`${field}.`) || place.startsWith(`${field}[`));
    try {
      violations.push(...violationsOf(input, fromJson(input, found.rest)).filter(isNew));
    } catch {
      // The problems that were found say enough.
    }
  }
  const message = violations.map((v) => (v.field === '' ? v.description : `${v.field}: ${v.description}`)).join('; ');
  const isReadable = found.problems.every((v) => v.field !== '');
  return toConnectError(
    isReadable
      ? new Refusal('invalid_argument', 'INVALID_REQUEST', message, { violations })
      : new Refusal('invalid_argument', 'MALFORMED_REQUEST', message, { violations }),
  );
}

/** Of what is refused or fails below the handlers. */
const REASONS: Readonly<Partial<Record<Code, string>>> = {
  [Code.InvalidArgument]: 'MALFORMED_REQUEST',
  [Code.ResourceExhausted]: 'MESSAGE_TOO_LARGE',
  [Code.DeadlineExceeded]: 'DEADLINE_EXCEEDED',
  [Code.Canceled]: 'CANCELED',
  [Code.NotFound]: 'UNKNOWN_SERVICE',
  [Code.Unavailable]: 'MASTER_CLOSING',
};

/** Connect tells errors of the same code apart by words alone. */
function reasonOf(code: Code, message: string): string {
  if (code !== Code.Unimplemented) return REASONS[code] ?? 'INTERNAL';
  if (message.startsWith('protocol error')) return 'MALFORMED_REQUEST';
  return message.includes('compression') ? 'UNKNOWN_COMPRESSION' : 'UNKNOWN_METHOD';
}

/** As the protocols write it, e.g. deadline_exceeded. */
function codeName(code: Code): string {
  return Code[code].replaceAll(/(?<=.)[A-Z]/g, (c) => `_${c}`).toLowerCase();
}
