/**
 * The port is in use by another process (or by this one).
 * Thrown by `serve`; an app catches it to print what to do about it.
 */
export class PortTakenError extends Error {
  override readonly name = 'PortTakenError';
  readonly code = 'EADDRINUSE';
  readonly host: string;
  readonly port: number;

  constructor(host: string, port: number, options?: ErrorOptions) {
    super(`${host}:${port} is already in use`, options);
    this.host = host;
    this.port = port;
  }
}

/** The address cannot be listened on for another reason; `code` is the system's (EACCES, EADDRNOTAVAIL, ENOTFOUND). */
export class BindError extends Error {
  override readonly name = 'BindError';
  readonly code: string;
  readonly host: string;
  readonly port: number;

  constructor(host: string, port: number, code: string, options?: ErrorOptions) {
    super(`cannot listen on ${host}:${port}: ${code}`, options);
    this.host = host;
    this.port = port;
    this.code = code;
  }
}

/** A host outside loopback was asked for where only loopback is allowed. Thrown by `assertLoopback`. */
export class NotLoopbackError extends Error {
  override readonly name = 'NotLoopbackError';
  readonly host: string;

  constructor(host: string) {
    super(`${host} is not a loopback address; allowed are 127.0.0.1, ::1 and localhost`);
    this.host = host;
  }
}

/** An entry of `corsOrigins` is not an exact origin such as `http://localhost:5173`. Thrown by `serve`. */
export class InvalidOriginError extends Error {
  override readonly name = 'InvalidOriginError';
  readonly origin: string;

  constructor(origin: string) {
    super(`"${origin}" is not an exact origin; write scheme, host and port, such as http://localhost:5173`);
    this.origin = origin;
  }
}
