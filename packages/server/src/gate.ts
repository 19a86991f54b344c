import type { IncomingHttpHeaders } from 'node:http';
import { cors } from '@connectrpc/connect';
import { InvalidOriginError } from './errors.ts';
import { isLoopback } from './loopback.ts';

export interface GateOptions {
  /** The host listened on. */
  host: string;
  /** Further names, without port, under which clients may address the server. */
  allowedHosts: readonly string[];
  /** Exact origins whose pages may call the server, beside its own. */
  corsOrigins: readonly string[] | 'none';
}

/** What the gate sees of a request. */
export interface GateRequest {
  method: string;
  /** The Host header or `:authority`. */
  authority: string | undefined;
  headers: IncomingHttpHeaders;
}

/** In each case `headers` belong on the response. `pass` goes on; `preflight` is answered with nothing more. */
export type Verdict =
  | { kind: 'pass' | 'preflight'; headers: Headers }
  | { kind: 'refuse'; headers: Headers; status: number; code: string; reason: string; message: string };

type Headers = readonly (readonly [name: string, value: string])[];

// Beside what the protocols need: tokens, and the trace of the caller.
const allowedHeaders = [...cors.allowedHeaders, 'Authorization', 'Traceparent', 'Tracestate'].join(', ');
const allowedMethods = cors.allowedMethods.join(', ');
const exposedHeaders = cors.exposedHeaders.join(', ');
const preflightMaxAgeS = '7200';

const pass: Verdict = { kind: 'pass', headers: [] };
const knownAuthoritiesMax = 256;

/**
 * Decides which requests a server on loopback takes. Any page in a browser on this machine can send requests to it, so:
 *
 * - The host asked for must be ours (loopback names, the bound host, configured ones): otherwise 403. A name of an
 *   attacker that resolves to 127.0.0.1 (DNS rebinding) ends here.
 * - With an Origin that is neither ours nor in `corsOrigins`, only GET and HEAD are taken, which have no effects and
 *   which that page cannot read: otherwise 403.
 * - Origins in `corsOrigins` get CORS headers, and their preflights an answer.
 *
 * Requests without Origin (curl, SDKs, gRPC) pass.
 */
export function createGate(options: GateOptions): (request: GateRequest) => Verdict {
  const hosts = new Set([options.host, ...options.allowedHosts].map((host) => unbracket(host.toLowerCase())));
  const origins = new Set(options.corsOrigins === 'none' ? [] : options.corsOrigins);
  for (const origin of origins) {
    if (!URL.canParse(origin) || new URL(origin).origin !== origin) {
      throw new InvalidOriginError(origin);
    }
  }
  const passVaried: Verdict = origins.size === 0 ? pass : { kind: 'pass', headers: [['Vary', 'Origin']] };

  // Authorities that passed: a set look-up instead of a parse on each request.
  const known = new Set<string>();
  const isOurs = (authority: string): boolean => {
    if (known.has(authority)) {
      return true;
    }
    const name = hostOf(authority);
    if (name === undefined || !(hosts.has(name) || isLoopback(name))) {
      return false;
    }
    if (known.size < knownAuthoritiesMax) {
      known.add(authority);
    }
    return true;
  };

  return ({ method, authority, headers }) => {
    if (authority === undefined) {
      return refuse(400, 'invalid_argument', 'MALFORMED_REQUEST', 'the request names no host');
    }
    if (!isOurs(authority)) {
      return refuse(
        403,
        'permission_denied',
        'FOREIGN_HOST',
        `this server does not answer for host "${authority}"; add it to the allowed hosts`,
      );
    }
    const origin = headers.origin;
    if (origin === undefined) {
      return passVaried;
    }
    if (origins.has(origin)) {
      if (method === 'OPTIONS' && headers['access-control-request-method'] !== undefined) {
        return preflight(origin, headers);
      }
      return {
        kind: 'pass',
        headers: [
          ['Access-Control-Allow-Origin', origin],
          ['Access-Control-Expose-Headers', exposedHeaders],
          ['Vary', 'Origin'],
        ],
      };
    }
    if (
      origin === `http://${authority}` ||
      origin === `https://${authority}` ||
      method === 'GET' ||
      method === 'HEAD'
    ) {
      return passVaried;
    }
    return refuse(
      403,
      'permission_denied',
      'FOREIGN_ORIGIN',
      `origin ${origin} may not call this server; add it to the allowed origins`,
    );
  };
}

function preflight(origin: string, headers: IncomingHttpHeaders): Verdict {
  const answer: [string, string][] = [
    ['Access-Control-Allow-Origin', origin],
    ['Access-Control-Allow-Methods', allowedMethods],
    ['Access-Control-Allow-Headers', allowedHeaders],
    ['Access-Control-Max-Age', preflightMaxAgeS],
    ['Vary', 'Origin'],
  ];
  if (headers['access-control-request-private-network'] === 'true') {
    answer.push(['Access-Control-Allow-Private-Network', 'true']);
  }
  return { kind: 'preflight', headers: answer };
}

function refuse(status: number, code: string, reason: string, message: string): Verdict {
  return { kind: 'refuse', headers: [], status, code, reason, message };
}

/** The host of `host`, `host:port` or `[v6]:port`, lower case and without brackets; undefined if it is malformed. */
function hostOf(authority: string): string | undefined {
  const match = /^(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(\d{1,5}))?$/i.exec(authority);
  if (match === null || Number(match[2] ?? 0) > 65535) {
    return undefined;
  }
  return unbracket(match[1]!.toLowerCase());
}

function unbracket(host: string): string {
  return host.startsWith('[') ? host.slice(1, -1) : host;
}
