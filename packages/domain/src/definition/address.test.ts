import { describe, expect, it } from 'vitest';
import { checkAddress, isMethodName } from './address.ts';

describe('an address', () => {
  it.each([
    ['localhost:1', 'localhost', 1],
    ['127.0.0.1:65535', '127.0.0.1', 65_535],
    ['energy_generator:50051', 'energy_generator', 50_051],
    ['a.b-c.example.:80', 'a.b-c.example.', 80],
    ['[::1]:50051', '::1', 50_051],
    ['[::]:1', '::', 1],
    ['[2001:db8:0:0:0:0:0:1]:7', '2001:db8:0:0:0:0:0:1', 7],
    ['[::ffff:10.0.0.1]:7', '::ffff:10.0.0.1', 7],
    ['[1:2:3:4:5:6:7::]:7', '1:2:3:4:5:6:7::', 7],
    ['[fe80::1%eth0]:7', 'fe80::1%eth0', 7],
  ])('%s is well formed', (text, host, port) => {
    expect(checkAddress(text)).toEqual({ ok: true, host, port });
  });

  it.each([
    ['localhost', 'has no port'],
    ['[::1]', 'has no port'],
    [':80', 'has no host'],
    ['localhost:', 'has a port that is not a number from 1 to 65535'],
    ['localhost:0', 'has a port that is not a number from 1 to 65535'],
    ['localhost:65536', 'has a port that is not a number from 1 to 65535'],
    ['localhost:8o', 'has a port that is not a number from 1 to 65535'],
    ['localhost:+80', 'has a port that is not a number from 1 to 65535'],
    ['localhost:000080', 'has a port that is not a number from 1 to 65535'],
    ['[::1]:99999', 'has a port that is not a number from 1 to 65535'],
    ['http://localhost:80', 'has a scheme'],
    ['dns:///localhost:80', 'has a scheme'],
    ['localhost:80/x', 'contains a character that no address has'],
    ['me@localhost:80', 'contains a character that no address has'],
    [' localhost:80', 'contains a character that no address has'],
    ['localhost:80\n', 'contains a character that no address has'],
    ['::1:80', 'has an IPv6 address without brackets'],
    ['[::1:80', 'has a bracket that is not closed'],
    ['[::1]80', 'has a bracket that is not closed'],
    ['[1::2::3]:80', 'has no IPv6 address between its brackets'],
    ['[12345::]:80', 'has no IPv6 address between its brackets'],
    ['[1:2:3:4:5:6:7]:80', 'has no IPv6 address between its brackets'],
    ['[1:2:3:4:5:6:7::8]:80', 'has no IPv6 address between its brackets'],
    ['[1:2:3:4:5:6:7:8::]:80', 'has no IPv6 address between its brackets'],
    ['[:1]:80', 'has no IPv6 address between its brackets'],
    ['[]:80', 'has no IPv6 address between its brackets'],
    ['[localhost]:80', 'has no IPv6 address between its brackets'],
    ['256.1.1.1:80', 'has a host that is neither a name nor an IP address'],
    ['1.2.3:80', 'has a host that is neither a name nor an IP address'],
    ['-a.example:80', 'has a host that is neither a name nor an IP address'],
    ['a..b:80', 'has a host that is neither a name nor an IP address'],
    [`${'a'.repeat(64)}:80`, 'has a host that is neither a name nor an IP address'],
    [`${'a'.repeat(600)}:80`, 'is longer than 512 characters'],
  ])('%j: %s', (text, message) => {
    const check = checkAddress(text);
    expect(check.ok ? 'ok' : check.message).toBe(message);
  });

  it('says how to write the one that was meant', () => {
    expect(checkAddress('https://host:443/path?x')).toMatchObject({ hint: 'leave the scheme out: "host:443"' });
    expect(checkAddress('host')).toMatchObject({ hint: 'add the port: "host:50051"' });
  });
});

describe('a method', () => {
  it.each(['ContainerExecutor/Execute', 'a.b.Service/Do_1'])('%s is well formed', (text) => {
    expect(isMethodName(text)).toBe(true);
  });

  it.each(['/a.B/C', 'a.B', 'a.B/', 'a..B/C', 'a.B/C/D', 'a B/C', '1a.B/C', 'a.B/C\n', ''])('%j is not', (text) => {
    expect(isMethodName(text)).toBe(false);
  });
});
