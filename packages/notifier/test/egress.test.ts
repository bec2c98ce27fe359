import { fork } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { type AddressInfo, connect, createServer as createTcpServer } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { rootCertificates } from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import { Egress, type EgressOptions } from '../src/egress/egress.ts';
import { dnsResolver } from '../src/egress/name-resolver.ts';
import { trustedRoots } from '../src/egress/trusted-roots.ts';
import { type Behavior, type HostileReceiver, hostileReceiver } from '../src/testing/index.ts';
import { dnsServer, type Zone } from './dns-server.ts';
import { selfSigned } from './self-signed.ts';

const opened: { close(): Promise<unknown> }[] = [];
afterEach(async () => {
  for (const one of opened.splice(0).reverse()) await one.close();
});

function egress(options: EgressOptions = {}): Egress {
  const made = new Egress({ allowHttp: true, connectTimeout: 400, requestTimeout: 2_000, ...options });
  opened.push(made);
  return made;
}

async function receiver(script?: Behavior, host?: string): Promise<HostileReceiver> {
  const made = await hostileReceiver(script, host);
  opened.push(made);
  return made;
}

function post(through: Egress, url: string) {
  return through.post({ url: new URL(url), headers: {}, body: Buffer.from('{}') });
}

/** The first address of each range that is denied, one from its middle, and its last. */
const deniedV4: Readonly<Record<string, readonly string[]>> = {
  '0/8': ['0.0.0.0', '0.1.2.3', '0.255.255.255'],
  '10/8': ['10.0.0.0', '10.1.2.3', '10.255.255.255'],
  '100.64/10': ['100.64.0.0', '100.100.0.1', '100.127.255.255'],
  '127/8': ['127.0.0.0', '127.0.0.1', '127.255.255.255'],
  '169.254/16': ['169.254.0.0', '169.254.169.254', '169.254.255.255'],
  '172.16/12': ['172.16.0.0', '172.20.1.1', '172.31.255.255'],
  '192.0.0/24': ['192.0.0.0', '192.0.0.170', '192.0.0.255'],
  '192.0.2/24': ['192.0.2.0', '192.0.2.7', '192.0.2.255'],
  '192.31.196/24': ['192.31.196.0', '192.31.196.9', '192.31.196.255'],
  '192.52.193/24': ['192.52.193.0', '192.52.193.9', '192.52.193.255'],
  '192.88.99/24': ['192.88.99.0', '192.88.99.1', '192.88.99.255'],
  '192.168/16': ['192.168.0.0', '192.168.1.1', '192.168.255.255'],
  '192.175.48/24': ['192.175.48.0', '192.175.48.6', '192.175.48.255'],
  '198.18/15': ['198.18.0.0', '198.19.0.1', '198.19.255.255'],
  '198.51.100/24': ['198.51.100.0', '198.51.100.7', '198.51.100.255'],
  '203.0.113/24': ['203.0.113.0', '203.0.113.7', '203.0.113.255'],
  '224/4': ['224.0.0.0', '239.1.2.3', '239.255.255.255'],
  '240/4': ['240.0.0.0', '250.1.1.1', '255.255.255.255'],
  '168.63.129.16/32': ['168.63.129.16'],
};
const allowedV4 = [
  ...['1.0.0.0', '9.255.255.255', '11.0.0.0', '100.63.255.255', '100.128.0.0', '126.255.255.255', '128.0.0.0', '169.253.255.255'],
  ...['169.255.0.0', '172.15.255.255', '172.32.0.0', '192.0.1.0', '192.0.3.0', '192.31.195.255', '192.31.197.0', '192.88.98.255'],
  ...['192.167.255.255', '192.169.0.0', '198.17.255.255', '198.20.0.0', '198.51.99.255', '203.0.112.255', '223.255.255.255'],
  ...['168.63.129.15', '168.63.129.17', '8.8.8.8'],
];
const deniedV6 = [
  ...[
    '::',
    '::1',
    '::7f00:1',
    '::a9fe:a9fe',
    '::ffff:10.0.0.1',
    '::ffff:8.8.8.8',
    '64:ff9b::7f00:1',
    '64:ff9b:1::1',
    '100::1',
    'fe80::1',
    'fec0::1',
  ],
  ...['fc00::1', 'fd12:3456::1', 'ff02::1', '2001::1', '2001:0:7f00:1::', '2001:1ff:ffff::1', '2001:db8::1', '2002::1', '2002:7f00:1::'],
  ...[
    '2002:a9fe:a9fe::1',
    '2620:4f:8000::1',
    '3fff::1',
    '3fff:fff::1',
    '4000::1',
    '5f00::1',
    '2a00::5efe:127.0.0.1',
    '2a00::200:5efe:a00:1',
  ],
];
const allowedV6 = [
  '2606:4700::1111',
  '2001:200::1',
  '2001:4860:4860::8888',
  '2003::1',
  '2620:4f:7fff::1',
  '3fff:1000::1',
  '2a00::5efd:1',
  '3ffe::1',
];

/** Every way in which a URL can write an IPv4 address. */
function spellings(address: string): readonly string[] {
  const parts = address.split('.').map(Number);
  const [a = 0, b = 0, c = 0, d = 0] = parts;
  const whole = ((a * 256 + b) * 256 + c) * 256 + d;
  const wide = (text: string): string => text.replace(/[0-9]/g, (digit) => String.fromCodePoint(0xff10 + Number(digit)));
  const circled = (text: string): string =>
    text.replace(/[0-9]/g, (digit) => (digit === '0' ? '\u24ea' : String.fromCodePoint(0x245f + Number(digit))));
  const hex = (n: number): string => `0x${n.toString(16)}`;
  return [
    address,
    `${address}.`,
    String(whole),
    hex(whole),
    `0${whole.toString(8)}`,
    parts.map((n) => `0${n.toString(8)}`).join('.'),
    parts.map(hex).join('.'),
    `${a}.${(b * 256 + c) * 256 + d}`,
    `${a}.${b}.${c * 256 + d}`,
    `${hex(a)}.0${b.toString(8)}.${c * 256 + d}`,
    wide(address),
    circled(address),
    address.replaceAll('.', '\u3002'),
    wide(String(whole)),
    address.replaceAll('.', '%2e'),
    `[::ffff:${address}]`,
    `[::${address}]`,
    `[::ffff:${whole
      .toString(16)
      .padStart(8, '0')
      .replace(/(.{4})/, '$1:')}]`,
    `[::ffff:0:${address}]`,
    `[64:ff9b::${address}]`,
    `[64:ff9b:1::${address}]`,
    `[2002:${whole
      .toString(16)
      .padStart(8, '0')
      .replace(/(.{4})/, '$1:')}::1]`,
    `[2001:0:${whole
      .toString(16)
      .padStart(8, '0')
      .replace(/(.{4})/, '$1:')}::1]`,
    `[2001:0:1::${(~whole >>> 0)
      .toString(16)
      .padStart(8, '0')
      .replace(/(.{4})/, '$1:')}]`,
    `[fe80::5efe:${address}]`,
    `[2a00::5efe:${address}]`,
    `[2a00::200:5efe:${address}]`,
  ];
}

describe('the egress guard', () => {
  it('refuses every range in every spelling that a URL can give an address, and nothing beside them', () => {
    const guard = egress();
    let checked = 0;
    for (const addresses of Object.values(deniedV4))
      for (const address of addresses)
        for (const host of spellings(address)) {
          expect(() => guard.check(`http://${host}/`), `${address} as ${host}`).toThrow(/not allowed|not an absolute URL/);
          checked += 1;
        }
    expect(checked).toBeGreaterThan(1_400);
    for (const address of deniedV6) expect(() => guard.check(`http://[${address}]/`), address).toThrow(/not allowed/);
    for (const address of allowedV4) expect(guard.check(`http://${address}/`).hostname, address).toBe(address);
    for (const address of allowedV6) expect(guard.check(`http://[${address}]/`).hostname, address).toContain(':');
    // Spelled otherwise it is still the same address, and allowed.
    expect(guard.check('http://0x08080808/').hostname).toBe('8.8.8.8');
    for (const list of Object.values(networkInterfaces()))
      for (const { address } of list ?? []) {
        const host = address.includes(':') ? `[${address.replace(/%.*/, '')}]` : address;
        expect(() => guard.check(`http://${host}/`), address).toThrow(/not allowed/);
      }
  });

  it('says which rule a URL breaks', () => {
    const guard = new Egress();
    opened.push(guard);
    const rules: Readonly<Record<string, string>> = {
      '': 'syntax',
      '/hook': 'syntax',
      nonsense: 'syntax',
      'https://': 'syntax',
      'https://1.2.3.4.5/': 'syntax',
      'https://256.1.1.1/': 'syntax',
      'http://example.com/': 'scheme',
      'ftp://example.com/': 'scheme',
      'file:///etc/passwd': 'scheme',
      'javascript:alert(1)': 'scheme',
      'https://user@example.com/': 'userinfo',
      'https://:secret@example.com/': 'userinfo',
      'https://example.com:22/': 'port',
      'https://example.com:8080/': 'port',
      'https://localhost/': 'host',
      'https://LOCALHOST./': 'host',
      'https://api.localhost/': 'host',
      'https://intranet/': 'host',
      'https://printer.local/': 'host',
      'https://printer.local./': 'host',
      'https://metadata.google.internal/': 'host',
      'https://router.home.arpa/': 'host',
      'https://10.0.0.1/': 'address',
      'https://[::1]/': 'address',
      [`https://example.com/${'x'.repeat(2_048)}`]: 'length',
      [`https://${'a.'.repeat(150)}com/`]: 'length',
    };
    for (const [url, rule] of Object.entries(rules)) {
      let found: unknown;
      try {
        guard.check(url);
      } catch (error) {
        found = error;
      }
      expect(found, url).toMatchObject({ code: 'egress-denied', rule });
      expect((found as Error).message.length).toBeLessThan(400);
    }
    for (const url of ['https://example.com', 'https://example.com:8443/x?y=1', 'https://例え.jp/', 'https://example.com./'])
      expect(guard.check(url).protocol).toBe('https:');
    expect(() => guard.check('https://example.com:99/?token=secret')).toThrow(/^(?!.*secret)/);
    for (const url of [
      'https://user:secret@exa mple.com/',
      'https://user:sec/secret@example.com:99999/',
      'https://user:se?secret@example.com:99999/',
      'https://user:se#secret@example.com:99999/',
      'nonsense?a=secret',
      'nonsense#secret',
    ])
      expect(() => guard.check(url), url).toThrow(/^(?!.*secret).*not an absolute URL/);
    expect(() => guard.check('user:secret@example.com')).toThrow(/^(?!.*secret)/);
    expect(() => new Egress({ allowCidrs: ['10.0.0.0'] })).toThrow(/not a valid range/);
    expect(() => new Egress({ allowCidrs: ['10.0.0.0/33'] })).toThrow(/not a valid range/);
    expect(() => new Egress({ allowPorts: [0] })).toThrow(/allowPorts/);
  });

  it('judges an address of DNS64 by the IPv4 address in it, also where the whole prefix is opened', () => {
    const guard = egress();
    expect(guard.check('http://[64:ff9b::8.8.8.8]/').hostname).toBe('[64:ff9b::808:808]');
    const opened64 = egress({ allowCidrs: ['64:ff9b::/96', '10.1.0.0/16'] });
    expect(opened64.check('http://[64:ff9b::5db8:d70e]/').hostname).toContain(':');
    for (const [address, reason] of [
      ['64:ff9b::a9fe:a9fe', /64:ff9b::a9fe:a9fe stands for an IPv4 address: 169\.254\.169\.254 is in/],
      ['64:ff9b::7f00:1', /127\.0\.0\.1/],
      ['64:ff9b::a00:1', /10\.0\.0\.1/],
    ] as const)
      for (const one of [guard, opened64]) expect(() => one.check(`http://[${address}]/`), address).toThrow(reason);
    // A private range that was opened is opened on either way.
    expect(opened64.check('http://[64:ff9b::10.1.2.3]/').hostname).toContain(':');
  });

  it('opens a private range by intent, in its own family only', async () => {
    const target = await receiver();
    const guard = egress({ allowCidrs: ['127.0.0.1/32'], allowPorts: [target.port] });
    expect(await post(guard, target.url)).toMatchObject({ kind: 'response', status: 200, remoteAddress: '127.0.0.1' });
    for (const host of ['127.0.0.2', '[::1]', '[::ffff:127.0.0.1]'])
      expect(() => guard.check(`http://${host}:${target.port}/`)).toThrow(/not allowed/);
    const v6 = egress({ allowCidrs: ['fd00::/8'] });
    expect(v6.check('http://[fd00::1]/').hostname).toBe('[fd00::1]');
    expect(() => v6.check('http://10.0.0.1/')).toThrow(/not allowed/);
  });

  describe('of names', () => {
    /** An address that is allowed and leads nowhere here. */
    const publicV4 = '93.184.215.14';
    const zones: Readonly<Record<string, { readonly zone: Zone; readonly looks: number; readonly codes: readonly (string | RegExp)[] }>> = {
      'that resolve to a private address': { zone: (_, type) => (type === 'A' ? ['127.0.0.1'] : []), looks: 1, codes: ['egress-denied'] },
      'with a public and a private address': {
        zone: (_, type) => (type === 'A' ? [publicV4, '127.0.0.1'] : []),
        looks: 2,
        codes: ['egress-denied'],
      },
      'with a public A and a private AAAA': {
        zone: (_, type) => (type === 'A' ? [publicV4] : ['::1']),
        looks: 1,
        codes: ['egress-denied'],
      },
      'with a mapped AAAA': { zone: (_, type) => (type === 'A' ? [] : ['::ffff:7f00:1']), looks: 1, codes: ['egress-denied'] },
      'with a private A and a public AAAA': {
        zone: (_, type) => (type === 'A' ? ['127.0.0.1'] : ['2606:4700::1111']),
        looks: 1,
        codes: ['egress-denied'],
      },
      'that are public first and private on the second look': {
        zone: (_, type, asked) => (type === 'A' ? [asked === 1 ? publicV4 : '127.0.0.1'] : []),
        looks: 3,
        codes: [/TIMEOUT|ENETUNREACH|EHOSTUNREACH|ECONNREFUSED|timeout/, 'egress-denied', 'egress-denied'],
      },
      'that have no address': { zone: () => [], looks: 1, codes: ['ENOTFOUND'] },
      'whose server is silent': { zone: () => undefined, looks: 1, codes: [/TIMEOUT|timeout/] },
    };
    it.each(Object.entries(zones))('%s: nobody reaches the private listener', async (_name, { zone, looks, codes }) => {
      const target = await receiver();
      const server = await dnsServer(zone);
      opened.push(server);
      const guard = egress({ dnsServers: [server.address], allowPorts: [target.port] });
      for (let look = 0; look < looks; look++) {
        const started = performance.now();
        const answer = await post(guard, `http://hooks.example.com:${target.port}/hook`);
        expect(answer.kind).toBe('failure');
        if (answer.kind !== 'failure') continue;
        const code = codes[look] ?? codes[0] ?? '';
        if (typeof code === 'string') expect(answer.code).toBe(code);
        else expect(answer.code).toMatch(code);
        expect(performance.now() - started).toBeLessThan(2_500);
      }
      expect(target.connections).toBe(0);
    });

    it('connect to what was judged, and to nothing else (control: the same name, opened)', async () => {
      const target = await receiver();
      const server = await dnsServer((_, type) => (type === 'A' ? ['127.0.0.1'] : []));
      opened.push(server);
      const guard = egress({ dnsServers: [server.address], allowPorts: [target.port], allowCidrs: ['127.0.0.0/8'] });
      expect(await post(guard, `http://hooks.example.com:${target.port}/hook`)).toMatchObject({
        kind: 'response',
        status: 200,
        remoteAddress: '127.0.0.1',
      });
      expect(target.connections).toBe(1);
    });
  });

  describe('of names whose servers are slow', () => {
    const answers: Zone = (_, type) => (type === 'A' ? ['127.0.0.1'] : []);
    const dead: Zone = () => undefined;
    const server = async (zone: Zone): Promise<string> => {
      const made = await dnsServer(zone);
      opened.push(made);
      return made.address;
    };
    const timed = async (servers: readonly string[], resolve = dnsResolver(servers)): Promise<number> => {
      const started = performance.now();
      expect(await resolve('hooks.example.com')).toEqual([{ address: '127.0.0.1', family: 4 }]);
      return performance.now() - started;
    };

    it('asks the next one beside a dead one, and that one first from then on', async () => {
      const servers = [await server(dead), await server(dead), await server(answers)];
      const resolve = dnsResolver(servers);
      expect(await timed(servers, resolve)).toBeLessThan(1_200);
      expect(await timed(servers, resolve)).toBeLessThan(150);
    });

    it('asks the next one at once if one fails, or can not be reached', async () => {
      const refuses = await dnsServer(answers);
      await refuses.close();
      expect(await timed([refuses.address, await server(answers)])).toBeLessThan(500);
    });

    it('does not wait for IPv6 addresses that do not come, nor for IPv4 addresses for long', async () => {
      expect(await timed([await server((_, type) => (type === 'A' ? ['127.0.0.1'] : undefined))])).toBeLessThan(500);
      const only6 = dnsResolver([await server((_, type) => (type === 'A' ? undefined : ['2606:4700::1111']))]);
      const started = performance.now();
      expect(await only6('hooks.example.com')).toEqual([{ address: '2606:4700::1111', family: 6 }]);
      expect(performance.now() - started).toBeLessThan(1_400);
    });

    it('takes the word of the first that there is no such name, and no longer than its bound over all', async () => {
      const none = dnsResolver([await server(() => []), await server(answers)]);
      await expect(none('hooks.example.com')).rejects.toMatchObject({ code: 'ENOTFOUND' });
      const started = performance.now();
      const silent = dnsResolver(await Promise.all([dead, dead, dead, dead, dead].map(server)));
      await expect(silent('hooks.example.com')).rejects.toMatchObject({ code: 'ETIMEOUT' });
      expect(performance.now() - started).toBeLessThan(2_000);
    });

    it('tries the next address of a name when one is dead', async () => {
      const target = await receiver();
      // Nothing listens on the first one.
      const both = await server((_, type) => (type === 'A' ? ['127.0.0.9', '127.0.0.1'] : []));
      const guard = egress({ dnsServers: [both], allowPorts: [target.port], allowCidrs: ['127.0.0.0/8'] });
      expect(await post(guard, `http://hooks.example.com:${target.port}/hook`)).toMatchObject({ status: 200 });
    });
  });

  it('trusts the authorities that it is given besides the usual ones', async () => {
    const secure = createSecureServer(selfSigned, (_, response) => response.end('success'));
    await new Promise<void>((resolve) => secure.listen(0, '127.0.0.1', resolve));
    opened.push({ close: () => new Promise((resolve) => secure.close(resolve)) });
    const { port } = secure.address() as AddressInfo;
    const options = { allowCidrs: ['127.0.0.1/32'], allowPorts: [port] };
    const url = `https://127.0.0.1:${port}/hook`;
    expect(await post(egress(options), url)).toMatchObject({ kind: 'failure', code: 'DEPTH_ZERO_SELF_SIGNED_CERT' });
    for (const ca of [selfSigned.cert, [Buffer.from(selfSigned.cert)]]) {
      expect(await post(egress({ ...options, ca }), url)).toMatchObject({ kind: 'response', status: 200 });
      expect(trustedRoots(ca)).toEqual(expect.arrayContaining([...rootCertificates]));
    }
    secure.closeAllConnections();
  });

  it('follows no redirect', async () => {
    const secret = await receiver();
    const target = await receiver((_, response) => response.writeHead(302, { location: secret.url }).end());
    const guard = egress({ allowCidrs: ['127.0.0.0/8'], allowPorts: [target.port, secret.port] });
    expect(await post(guard, target.url)).toMatchObject({ kind: 'response', status: 302 });
    expect(secret.connections).toBe(0);
  });

  it('judges what it is told to send to once more, and takes no proxy from the environment', async () => {
    const target = await receiver();
    const proxy = await receiver();
    for (const name of ['HTTP_PROXY', 'http_proxy', 'ALL_PROXY', 'NODE_USE_ENV_PROXY'])
      process.env[name] = name.startsWith('NODE') ? '1' : proxy.url;
    try {
      const closed = egress({ allowPorts: [target.port] });
      expect(await post(closed, target.url)).toMatchObject({ kind: 'failure', code: 'egress-denied' });
      const open = egress({ allowCidrs: ['127.0.0.1/32'], allowPorts: [target.port] });
      expect(await post(open, target.url)).toMatchObject({ kind: 'response', status: 200 });
    } finally {
      for (const name of ['HTTP_PROXY', 'http_proxy', 'ALL_PROXY', 'NODE_USE_ENV_PROXY']) delete process.env[name];
    }
    expect(target.connections).toBe(1);
    expect(proxy.connections).toBe(0);
  });

  it('goes through the proxy that it is given, to what is allowed only, and says what the proxy says', async () => {
    const target = await receiver();
    const asked: string[] = [];
    let refuses = false;
    const forward = (host: string, socket: Duplex, head: Buffer): void => {
      asked.push(host);
      if (refuses) return void socket.end('HTTP/1.1 403 Forbidden\r\n\r\n');
      const upstream = connect(target.port, '127.0.0.1', () => {
        socket.write('HTTP/1.1 200 Connection Established\r\n\r\n');
        upstream.write(head);
        upstream.pipe(socket).pipe(upstream);
      });
      upstream.on('error', () => socket.destroy());
      socket.on('error', () => upstream.destroy());
    };
    const proxy = createServer();
    const credentials: (string | undefined)[] = [];
    proxy.on('connect', (request, socket, head) => {
      if (!refuses) credentials.push(request.headers['proxy-authorization']);
      forward(String(request.url), socket, head);
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    const { port } = proxy.address() as AddressInfo;
    // Names are for the proxy to resolve: here, no server of names can be reached.
    const dnsServers = ['127.0.0.1:1'];
    const through = egress({ proxy: `http://me:pass@127.0.0.1:${port}`, dnsServers, allowPorts: [target.port] });
    // Only the request to the proxy is checked here, not the destinations that the proxy reaches.
    expect(await post(through, `http://hooks.example.com:${target.port}/hook`)).toMatchObject({ kind: 'response', status: 200 });
    expect(asked).toEqual([`hooks.example.com:${target.port}`]);
    expect(credentials).toEqual([`Basic ${Buffer.from('me:pass').toString('base64')}`]);
    for (const host of ['127.0.0.1', '169.254.169.254', '[::1]', '[64:ff9b::7f00:1]', 'inside.internal'])
      expect(await post(through, `http://${host}:${target.port}/`), host).toMatchObject({ kind: 'failure', code: 'egress-denied' });
    expect(asked).toHaveLength(1);
    // On a connection of its own: the one before stands.
    refuses = true;
    const fresh = egress({ proxy: `http://127.0.0.1:${port}`, dnsServers, allowPorts: [target.port] });
    expect(await post(fresh, `http://hooks.example.com:${target.port}/hook`)).toMatchObject({
      kind: 'failure',
      answered: false,
      message: expect.stringContaining('Proxy response (403)'),
    });
    proxy.closeAllConnections();
    await new Promise((resolve) => proxy.close(resolve));
    const gone = egress({ proxy: `http://127.0.0.1:${port}`, dnsServers, allowPorts: [target.port] });
    expect(await post(gone, `http://hooks.example.com:${target.port}/hook`)).toMatchObject({ kind: 'failure', code: 'ECONNREFUSED' });
    expect(target.requests).toHaveLength(1);
    for (const bad of ['proxy.example:3128', 'user:secret@proxy', 'socks5://proxy:1080'])
      expect(() => new Egress({ proxy: bad })).toThrow(/^(?!.*secret)proxy is not a URL with http or https/);
  });

  it('goes through its proxy to receivers with TLS, and trusts the authorities that it is given', async () => {
    const secure = createSecureServer(selfSigned, (_, response) => response.end('success'));
    await new Promise<void>((resolve) => secure.listen(0, '127.0.0.1', resolve));
    const target = (secure.address() as AddressInfo).port;
    // The proxy is reached by TLS, too.
    const proxy = createSecureServer(selfSigned);
    proxy.on('connect', (_request, socket: Duplex) => {
      const upstream = connect(target, '127.0.0.1', () => {
        socket.write('HTTP/1.1 200 OK\r\n\r\n');
        upstream.pipe(socket).pipe(upstream);
      });
      upstream.on('error', () => socket.destroy());
      socket.on('error', () => upstream.destroy());
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    opened.push(
      { close: () => new Promise((resolve) => proxy.close(resolve)) },
      { close: () => new Promise((resolve) => secure.close(resolve)) },
    );
    const { port } = proxy.address() as AddressInfo;
    const through = egress({ proxy: `https://127.0.0.1:${port}`, ca: selfSigned.cert });
    for (let i = 0; i < 2; i++)
      expect(await post(through, 'https://hooks.example.com/hook')).toMatchObject({
        kind: 'response',
        status: 200,
        remoteAddress: undefined,
      });
    await through.close();
    proxy.closeAllConnections();
    secure.closeAllConnections();
  });

  it('skips 100 Continue that was not asked for, in however many pieces it comes', async () => {
    const interim = 'HTTP/1.1 100 Continue\r\nx: y\r\n\r\n';
    const answer = 'HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nsuccess';
    const pieces: readonly (readonly string[])[] = [
      [interim + answer],
      [interim, answer],
      [interim + interim, answer],
      ['HTT', 'P/1.1 10', '0 Continue\r\n\r', '\nHTTP/1.1 2', '00 OK\r\ncontent-length: 7\r\n\r\nsucc', 'ess'],
      [answer],
      ['H', answer.slice(1)],
      ['HTTP/1.1 102 Processing\r\n\r\n', interim, answer],
    ];
    let next = 0;
    const target = await receiver((_, response) => {
      const socket = response.socket;
      const send = ([piece, ...rest]: readonly string[]): void => {
        if (piece !== undefined) socket?.write(piece, () => setTimeout(() => send(rest), 5));
      };
      socket?.setNoDelay(true);
      send(pieces[next++] ?? []);
    });
    const guard = egress({ allowCidrs: ['127.0.0.0/8'], allowPorts: [target.port] });
    for (const [i, sent] of pieces.entries()) {
      // The answer is written past Node's server, which takes no second request on that connection: each has its own, but for the last.
      const fresh = egress({ allowCidrs: ['127.0.0.0/8'], allowPorts: [target.port] });
      const got = await post(i === 0 ? guard : fresh, target.url);
      expect(got.kind === 'response' && [got.status, got.body.toString()], JSON.stringify(sent)).toEqual([200, 'success']);
    }
  });

  it('does not skip 100 Continue without end', async () => {
    const server = createTcpServer((socket) => {
      const more = (): void => {
        while (!socket.destroyed && socket.write('HTTP/1.1 100 Continue\r\n\r\n'.repeat(1_000)));
      };
      socket
        .on('data', more)
        .on('drain', more)
        .on('error', () => undefined);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    opened.push({ close: () => new Promise((resolve) => server.close(resolve)) });
    const { port } = server.address() as AddressInfo;
    const guard = egress({ allowCidrs: ['127.0.0.0/8'], allowPorts: [port] });
    const started = performance.now();
    expect(await post(guard, `http://127.0.0.1:${port}/`)).toMatchObject({ kind: 'failure' });
    expect(performance.now() - started).toBeLessThan(1_000);
  });

  it('skips 100 Continue at each request on a connection', async () => {
    const server = createTcpServer((socket) => {
      socket.on('data', () => socket.write('HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nsuccess'));
      socket.on('error', () => undefined);
      connections += 1;
    });
    let connections = 0;
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    opened.push({ close: () => new Promise((resolve) => server.close(resolve)) });
    const { port } = server.address() as AddressInfo;
    const guard = egress({ allowCidrs: ['127.0.0.0/8'], allowPorts: [port] });
    for (let i = 0; i < 5; i++) expect(await post(guard, `http://127.0.0.1:${port}/`)).toMatchObject({ kind: 'response', status: 200 });
    expect(connections).toBe(1);
  });

  it('leaves every hostile receiver within its bounds', async () => {
    const script: readonly (readonly [Behavior, object, number])[] = [
      ['ok', { kind: 'response', status: 200, bodyBytes: 7 }, 500],
      ['hang', { kind: 'failure', code: 'timeout' }, 2_300],
      ['drip-headers', { kind: 'failure', code: 'timeout' }, 2_300],
      ['drip-body', { kind: 'failure', code: 'timeout' }, 2_300],
      ['endless', { kind: 'response', status: 200 }, 1_000],
      ['huge-headers', { kind: 'failure', code: 'UND_ERR_HEADERS_OVERFLOW' }, 1_000],
      ['gzip-bomb', { kind: 'response', status: 200 }, 1_000],
      ['redirect-metadata', { kind: 'response', status: 302 }, 1_000],
      ['redirect-self', { kind: 'response', status: 307 }, 1_000],
      ['reset', { kind: 'failure' }, 1_000],
      ['reset-in-body', { kind: 'failure' }, 1_000],
      [(_, response) => response.socket?.end('not http at all\r\n\r\n'), { kind: 'failure' }, 1_000],
      [(_, response) => response.writeHead(204).end(), { kind: 'response', status: 204, bodyBytes: 0 }, 1_000],
      [(_, response) => response.end(Buffer.alloc(70_000, 'x')), { kind: 'response', status: 200 }, 1_000],
    ];
    await Promise.all(
      script.map(async ([behavior, expected, withinMs]) => {
        const target = await receiver(behavior);
        const guard = egress({ allowCidrs: ['127.0.0.0/8'], allowPorts: [target.port] });
        const started = performance.now();
        const answer = await post(guard, target.url);
        expect(answer, String(behavior)).toMatchObject(expected);
        expect(performance.now() - started, String(behavior)).toBeLessThan(withinMs);
        if (answer.kind === 'response') {
          expect(answer.body.length).toBeLessThanOrEqual(2_048);
          expect(answer.bodyBytes).toBeLessThanOrEqual(65_536 * 2);
        }
      }),
    );
  });

  it('keeps its memory flat while 64 receivers stream for ever', async () => {
    // In a process of its own, so that what it holds is not counted.
    const child = fork(join(import.meta.dirname, 'victim', 'endless.ts'), { execArgv: process.execArgv });
    opened.push({ close: async () => child.kill() });
    const [target] = (await once(child, 'message')) as [{ readonly url: string; readonly port: number }];
    const guard = egress({ allowCidrs: ['127.0.0.0/8'], allowPorts: [target.port] });
    const round = async (times: number): Promise<void> => {
      for (let i = 0; i < times; i++) {
        const answers = await Promise.all(Array.from({ length: 64 }, () => post(guard, target.url)));
        expect(answers.every((answer) => answer.kind === 'response' && answer.bodyBytes < 200_000)).toBe(true);
      }
    };
    await round(20);
    const before = process.memoryUsage().rss;
    await round(60);
    expect(process.memoryUsage().rss - before).toBeLessThan(64 * 2 ** 20);
  });

  it('sends again on a new connection what went into one that its receiver was closing', async () => {
    const target = await receiver();
    const guard = egress({ allowCidrs: ['127.0.0.0/8'], allowPorts: [target.port] });
    expect(await post(guard, target.url)).toMatchObject({ status: 200 });
    target.behave('reset', 'ok');
    expect(await post(guard, target.url)).toMatchObject({ kind: 'response', status: 200 });
    expect(target.requests).toHaveLength(3);
    // One that has answered in part is not asked again.
    target.behave('reset-in-body');
    const before = target.requests.length;
    expect(await post(guard, target.url)).toMatchObject({ kind: 'failure', answered: true });
    expect(target.requests).toHaveLength(before + 1);
    target.behave('reset');
    expect(await post(guard, target.url)).toMatchObject({ kind: 'failure' });
  });
});
