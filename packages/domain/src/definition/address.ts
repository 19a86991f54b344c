/** A checked network address. `text` is what to dial: `host:port`, IPv6 in brackets. */
export type AddressCheck =
  | { readonly ok: true; readonly host: string; readonly port: number }
  | { readonly ok: false; readonly message: string; readonly hint: string };

const MAX_ADDRESS_LENGTH = 512;
const FORM = 'write it as host:port, for example "127.0.0.1:50051" or "[::1]:50051"';

/** Checks `host:port`: a name, an IPv4 address or an IPv6 address in brackets; port 1 to 65535; no scheme, no path. */
export function checkAddress(text: string): AddressCheck {
  const bad = (message: string, hint = FORM): AddressCheck => ({ ok: false, message, hint });
  const scheme = /^[A-Za-z][A-Za-z0-9+.-]*:\/\/(.*)$/s.exec(text);
  if (scheme) return bad('has a scheme', `leave the scheme out: "${scheme[1]!.replace(/[/?#].*$/s, '')}"`);
  if (text.length > MAX_ADDRESS_LENGTH) return bad(`is longer than ${MAX_ADDRESS_LENGTH} characters`);
  if (/[\s/?#@\\]/.test(text)) return bad('contains a character that no address has');

  let host: string;
  let port: string;
  if (text.startsWith('[')) {
    const match = /^\[([^\]]*)\](?::(.*))?$/s.exec(text);
    if (!match) return bad('has a bracket that is not closed');
    host = match[1]!;
    if (!isIpv6(host)) return bad('has no IPv6 address between its brackets');
    if (match[2] === undefined) return bad('has no port', `add the port: "${text}:50051"`);
    port = match[2];
  } else {
    const colon = text.lastIndexOf(':');
    if (colon < 0) return bad('has no port', `add the port: "${text}:50051"`);
    host = text.slice(0, colon);
    port = text.slice(colon + 1);
    if (host.includes(':')) return bad('has an IPv6 address without brackets', 'write it as "[address]:port"');
    if (host === '') return bad('has no host');
    if (!isIpv4(host) && !isHostName(host)) return bad('has a host that is neither a name nor an IP address');
  }
  if (!/^[0-9]{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65_535) {
    return bad('has a port that is not a number from 1 to 65535');
  }
  return { ok: true, host, port: Number(port) };
}

function isIpv4(host: string): boolean {
  const parts = host.split('.');
  return parts.length === 4 && parts.every((part) => /^(0|[1-9][0-9]{0,2})$/.test(part) && Number(part) <= 255);
}

// Underscores are not for host names, but container networks are full of them.
const LABEL = /^[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$/;

function isHostName(host: string): boolean {
  const labels = host.replace(/\.$/, '').split('.');
  // A name whose last label is a number is read as an IPv4 address by resolvers, and it was not one.
  return host.length <= 253 && labels.every((label) => LABEL.test(label)) && !/^[0-9]+$/.test(labels.at(-1)!);
}

function isIpv6(host: string): boolean {
  const [address = '', zone, ...more] = host.split('%');
  if (more.length > 0 || (zone !== undefined && !/^[A-Za-z0-9_.-]+$/.test(zone))) return false;
  const halves = address.split('::');
  if (halves.length > 2) return false;
  let groups = 0;
  for (const [index, half] of halves.entries()) {
    if (half === '') continue;
    const parts = half.split(':');
    for (const [position, part] of parts.entries()) {
      const isLast = index === halves.length - 1 && position === parts.length - 1;
      if (isLast && part.includes('.')) {
        if (!isIpv4(part)) return false;
        groups += 2;
      } else if (/^[0-9A-Fa-f]{1,4}$/.test(part)) {
        groups += 1;
      } else {
        return false;
      }
    }
  }
  if (halves.length === 1) return address !== '' && groups === 8;
  return groups <= 7;
}

/** Whether a text names a unary method as gRPC does: `Service/Method` or `package.Service/Method`. */
export function isMethodName(text: string): boolean {
  return /^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*\/[A-Za-z_][A-Za-z0-9_]*$/.test(text);
}
