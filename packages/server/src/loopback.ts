import { NotLoopbackError } from './errors.ts';

/**
 * Whether a host name or address can only be reached from this machine: `localhost` and names under it (RFC 6761),
 * 127.0.0.0/8 and `::1`, the latter with or without brackets.
 */
export function isLoopback(host: string): boolean {
  const name = host.toLowerCase();
  if (name === 'localhost' || name.endsWith('.localhost') || name === '::1' || name === '[::1]') {
    return true;
  }
  const octets = /^127\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(name);
  return octets?.slice(1).every((octet) => Number(octet) <= 255) ?? false;
}

/** Throws `NotLoopbackError` unless `isLoopback(host)`. */
export function assertLoopback(host: string): void {
  if (!isLoopback(host)) {
    throw new NotLoopbackError(host);
  }
}
