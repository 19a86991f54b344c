import { describe, expect, test } from 'vitest';
import { AddressRefused, AddressRuleError, addressRules, isPublic } from './address-rules.ts';

const allowsUrl = (rules: string[], url: string): boolean => {
  try {
    addressRules(rules).checkUrl(new URL(url));
    return true;
  } catch (error) {
    expect(error).toBeInstanceOf(AddressRefused);
    return false;
  }
};
/** What a connection to this URL would be made to. */
const found = (rules: string[], url: string): Promise<string> =>
  new Promise((resolve) => {
    const target = new URL(url);
    addressRules(rules).lookupFor(target)(target.hostname, {}, (error, address) =>
      resolve(error ? error.name : String(address)),
    );
  });

describe('public addresses', () => {
  test.each([
    '8.8.8.8',
    '1.1.1.1',
    '172.15.0.1',
    '172.32.0.1',
    '2606:4700:4700::1111',
    '::ffff:8.8.8.8',
    '::ffff:808:808',
  ])('%s is one', (address) => expect(isPublic(address)).toBe(true));
  test.each([
    ...[
      '0.0.0.0',
      '10.0.0.1',
      '100.64.0.1',
      '127.0.0.1',
      '127.1.2.3',
      '169.254.169.254',
      '172.16.0.1',
      '172.31.255.255',
    ],
    ...[
      '192.168.1.1',
      '198.18.0.1',
      '224.0.0.1',
      '255.255.255.255',
      '::',
      '::1',
      'fe80::1',
      'fe80::1%eth0',
      'fc00::1',
      'fd12::1',
    ],
    ...[
      'ff02::1',
      '::ffff:127.0.0.1',
      '::ffff:7f00:1',
      '::ffff:a9fe:a9fe',
      '64:ff9b::7f00:1',
      '2002:7f00:1::',
      '2001:db8::1',
    ],
    ...['2001::1', 'not an address', ''],
  ])('%s is none', (address) => expect(isPublic(address)).toBe(false));
});

describe('rules', () => {
  test('public addresses alone are allowed by "public", however the others are spelled', () => {
    for (const host of ['127.0.0.1', '2130706433', '0x7f000001', '0177.0.0.1', '127.1', '[::1]', '[::ffff:127.0.0.1]'])
      expect([host, allowsUrl(['public'], `http://${host}/`)]).toEqual([host, false]);
    expect(allowsUrl(['public'], 'http://8.8.8.8/')).toBe(true);
    expect(allowsUrl(['public'], 'https://[2606:4700::1111]/')).toBe(true);
  });

  test('a range, an address, and a port of it', () => {
    expect(allowsUrl(['10.1.0.0/16'], 'http://10.1.2.3/')).toBe(true);
    expect(allowsUrl(['10.1.0.0/16'], 'http://10.2.2.3/')).toBe(false);
    expect(allowsUrl(['10.1.0.0/16'], 'http://8.8.8.8/')).toBe(false);
    expect(allowsUrl(['127.0.0.1:9000'], 'http://127.0.0.1:9000/')).toBe(true);
    expect(allowsUrl(['127.0.0.1:9000'], 'http://127.0.0.1:9001/')).toBe(false);
    expect(allowsUrl(['[::1]:9000'], 'http://[::1]:9000/')).toBe(true);
    expect(allowsUrl(['::1'], 'http://[::1]:80/')).toBe(true);
    expect(allowsUrl(['public:443'], 'https://8.8.8.8/')).toBe(true);
    expect(allowsUrl(['public:443'], 'http://8.8.8.8/')).toBe(false);
  });

  test('a name is judged by the addresses that it has when the connection is made', async () => {
    expect(await found(['public'], 'http://localhost/')).toBe('AddressRefused');
    expect(await found(['127.0.0.0/8'], 'http://localhost/')).toBe('127.0.0.1');
    expect(await found(['localhost'], 'http://localhost/')).toMatch(/^(127\.0\.0\.1|::1)$/);
    expect(await found(['*.localhost'], 'http://localhost/')).toBe('AddressRefused');
  });

  test('only http and https, and no passwords in the URL', () => {
    expect(allowsUrl(['public'], 'ftp://8.8.8.8/')).toBe(false);
    expect(allowsUrl(['public'], 'file:///etc/passwd')).toBe(false);
    expect(allowsUrl(['public'], 'http://user:secret@8.8.8.8/')).toBe(false);
  });

  test('that cannot be read are all named', () => {
    const wrong = ['10.0.0.0/33', '300.1.1.1', 'http://x', '*', '-x', '127.0.0.1:0', '127.0.0.1:70000', '1.2.3', ''];
    let message = '';
    try {
      addressRules([...wrong, 'public', 'good.example']);
    } catch (error) {
      expect(error).toBeInstanceOf(AddressRuleError);
      message = (error as Error).message;
    }
    expect(message).toContain(wrong.join(', '));
    expect(message).not.toContain('good.example');
  });
});
