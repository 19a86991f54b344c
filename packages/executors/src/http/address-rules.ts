import { lookup } from 'node:dns';
import { BlockList, isIP, type LookupFunction } from 'node:net';

/** The address rules do not let a connection go there. Whoever wrote the URL cannot change them: no retry helps. */
export class AddressRefused extends Error {
  override readonly name = 'AddressRefused';
}

/**
 * Where requests may go, so that who may submit a task may not by that reach what only the worker's machine can reach: its own
 * services, the private network, a cloud's metadata.
 */
export interface AddressRules {
  /** Throws `AddressRefused` for a URL that may not be asked, as far as that can be seen without its addresses. */
  checkUrl(url: URL): void;
  /**
   * Finds the addresses of a host for a connection; only those that are allowed are used. The address that was looked at is the
   * address that is connected to: a name cannot change its mind in between.
   */
  lookupFor(url: URL): LookupFunction;
}

/** A rule cannot be read. */
export class AddressRuleError extends Error {
  override readonly name = 'AddressRuleError';
}

/** Ranges that are not of the public Internet (IANA's special-purpose registries). IPv6 is public within 2000::/3 alone. */
const SPECIAL: readonly [string, number, 'ipv4' | 'ipv6'][] = [
  ['0.0.0.0', 8, 'ipv4'],
  ['10.0.0.0', 8, 'ipv4'],
  ['100.64.0.0', 10, 'ipv4'],
  ['127.0.0.0', 8, 'ipv4'],
  ['169.254.0.0', 16, 'ipv4'],
  ['172.16.0.0', 12, 'ipv4'],
  ['192.0.0.0', 24, 'ipv4'],
  ['192.0.2.0', 24, 'ipv4'],
  ['192.88.99.0', 24, 'ipv4'],
  ['192.168.0.0', 16, 'ipv4'],
  ['198.18.0.0', 15, 'ipv4'],
  ['198.51.100.0', 24, 'ipv4'],
  ['203.0.113.0', 24, 'ipv4'],
  ['224.0.0.0', 4, 'ipv4'],
  ['240.0.0.0', 4, 'ipv4'],
  // Teredo, documentation, 6to4: each may hide an IPv4 address.
  ['2001::', 32, 'ipv6'],
  ['2001:db8::', 32, 'ipv6'],
  ['2002::', 16, 'ipv6'],
];
const special = new BlockList();
for (const [net, prefix, family] of SPECIAL) special.addSubnet(net, prefix, family);
const global6 = new BlockList();
global6.addSubnet('2000::', 3, 'ipv6');
const mapped = new BlockList();
mapped.addSubnet('::ffff:0:0', 96, 'ipv6');

/**
 * @param allow what may be reached: `public` (every public address), an address or range (`10.1.0.0/16`, `::1`), a host
 *   (`functions.internal`) or all below one (`*.internal`), each with an optional port (`127.0.0.1:9000`, `[::1]:9000`). A host that
 *   is named may have any address.
 * @throws AddressRuleError that names each rule that cannot be read
 */
export function addressRules(allow: readonly string[]): AddressRules {
  const rules: Rule[] = [];
  const wrong: string[] = [];
  for (const text of allow) {
    const rule = parseRule(text.trim().toLowerCase());
    if (rule === undefined) wrong.push(text);
    else rules.push(rule);
  }
  if (wrong.length > 0) {
    throw new AddressRuleError(
      `not an address rule: ${wrong.join(', ')}; known are public, an address or range (10.1.0.0/16), a host (functions.internal, *.internal), each with an optional :port`,
    );
  }

  const allows = (url: URL, address: string): boolean => {
    const host = hostOf(url);
    const port = portOf(url);
    const plain = plainAddress(address);
    return rules.some((rule) => (rule.port === undefined || rule.port === port) && rule.takes(host, plain));
  };
  const refuse = (url: URL, address: string): AddressRefused => {
    const what = isPublic(plainAddress(address)) ? 'is not among those' : 'is not a public one, and not among those';
    const name = hostOf(url) === address ? address : `${hostOf(url)} (${address})`;
    return new AddressRefused(`the address of ${name} ${what} that this worker's rules allow (BATON_HTTP_ALLOW)`);
  };

  return {
    checkUrl(url) {
      if (url.protocol !== 'http:' && url.protocol !== 'https:') {
        throw new AddressRefused(`a function is asked by http or https, not by ${url.protocol.slice(0, -1)}`);
      }
      if (url.username !== '' || url.password !== '') {
        throw new AddressRefused('the URL carries a user or a password, which would be kept with the task');
      }
      const host = hostOf(url);
      // A literal address is never looked up.
      if (isIP(host) !== 0 && !allows(url, host)) throw refuse(url, host);
    },
    lookupFor(url) {
      return (hostname, options, callback) => {
        lookup(hostname, { ...options, all: true }, (error, addresses) => {
          if (error) return callback(error, '', 0);
          const good = addresses.filter(({ address }) => allows(url, address));
          const first = good[0];
          if (first === undefined) return callback(refuse(url, addresses[0]?.address ?? hostname), '', 0);
          if (options.all) return callback(null, good);
          return callback(null, first.address, first.family);
        });
      };
    },
  };
}

interface Rule {
  readonly port: number | undefined;
  takes(host: string, address: string): boolean;
}

function parseRule(text: string): Rule | undefined {
  const [, bracketed, bare, portText] =
    /^(?:\[([0-9a-f:.]+)\]|([^\s:]+|[0-9a-f:.]*:[0-9a-f:.]*:[0-9a-f:./]*))(?::(\d{1,5}))?$/.exec(text) ?? [];
  const what = bracketed ?? bare;
  const port = portText === undefined ? undefined : Number(portText);
  if (what === undefined || (port !== undefined && (port === 0 || port > 65_535))) return undefined;
  if (what === 'public') return { port, takes: (_, address) => isPublic(address) };
  const [net = '', prefixText, ...more] = what.split('/');
  const family = isIP(net);
  if (family !== 0) {
    const prefix = prefixText === undefined ? (family === 4 ? 32 : 128) : Number(prefixText);
    if (
      more.length > 0 ||
      prefixText === '' ||
      !Number.isInteger(prefix) ||
      prefix < 0 ||
      prefix > (family === 4 ? 32 : 128)
    )
      return undefined;
    const list = new BlockList();
    list.addSubnet(net, prefix, family === 4 ? 'ipv4' : 'ipv6');
    return { port, takes: (_, address) => isIn(list, address) };
  }
  const isName = /^(\*\.)?(?!-)[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?$/.test(what) && !/^[0-9.]+$/.test(what);
  if (!isName) return undefined;
  const name = what.replace(/\.$/, '');
  return name.startsWith('*.')
    ? { port, takes: (host) => host.endsWith(name.slice(1)) && host.length > name.length - 1 }
    : { port, takes: (host) => host === name };
}

/** Whether an address is one of the public Internet. What is no address is none. */
export function isPublic(address: string): boolean {
  const plain = plainAddress(address);
  if (isIn(special, plain)) return false;
  return isIP(plain) === 4 || isIn(global6, plain);
}

function isIn(list: BlockList, address: string): boolean {
  const family = isIP(address);
  return family !== 0 && list.check(address, family === 4 ? 'ipv4' : 'ipv6');
}

/** Without a zone; an IPv4 address in IPv6's clothes (::ffff:127.0.0.1) as what it is. */
function plainAddress(address: string): string {
  const bare = address.split('%')[0]!;
  if (isIP(bare) !== 6 || !mapped.check(bare, 'ipv6')) return bare;
  const dotted = /((?:\d+\.){3}\d+)$/.exec(bare);
  if (dotted) return dotted[1]!;
  const [high = '0', low = '0'] = bare.split(':').slice(-2);
  const [a, b] = [Number.parseInt(high || '0', 16), Number.parseInt(low || '0', 16)];
  return `${a >> 8}.${a & 255}.${b >> 8}.${b & 255}`;
}

/** As WHATWG's URL has it: lower case, numbers in all their spellings as dotted quads; without brackets and the last dot. */
function hostOf(url: URL): string {
  return url.hostname.replace(/^\[(.*)\]$/, '$1').replace(/\.$/, '');
}

function portOf(url: URL): number {
  return url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port);
}
