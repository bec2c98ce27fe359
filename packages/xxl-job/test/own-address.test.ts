import { networkInterfaces } from 'node:os';
import type { Logger } from '@holdfast/core';
import { afterEach, describe, expect, it } from 'vitest';
import { httpAddress, ownHost } from '../src/admin/own-address.ts';
import { createExecutor, type Executor, type ExecutorOptions } from '../src/index.ts';

/** A documentation address (RFC 5737), which nobody has. */
const elsewhere = 'http://198.51.100.17:8080/xxl-job-admin';
const here = 'http://127.0.0.1:9/xxl-job-admin';
const external = Object.values(networkInterfaces())
  .flatMap((addresses) => addresses ?? [])
  .find(({ family, internal }) => family === 'IPv4' && !internal)?.address;

describe('the address that an executor registers', () => {
  const executors: Executor[] = [];
  afterEach(async () => {
    await Promise.all(executors.splice(0).map((executor) => executor.stop()));
  });
  const start = async (options: Partial<ExecutorOptions>): Promise<{ readonly address: string; readonly warned: readonly string[] }> => {
    const warned: string[] = [];
    const ignore = (): void => undefined;
    const logger: Logger = { debug: ignore, info: ignore, error: ignore, warn: (_fields, message) => void warned.push(String(message)) };
    const executor = createExecutor({ admins: [], appName: 'holdfast-test', handlers: {}, port: 0, logger, ...options });
    executors.push(executor);
    await executor.start();
    return { address: executor.address, warned: warned.filter((text) => text.includes("can't reach")) };
  };

  it('is that of the loopback for admins on this machine, without a warning', async () => {
    for (const host of [undefined, '0.0.0.0', '::']) {
      const { address, warned } = await start({ admins: [here, 'http://localhost:9/'], ...(host === undefined ? {} : { host }) });
      expect(address).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/$/);
      expect(warned).toEqual([]);
    }
  });

  it('is warned of if it is a loopback or a wildcard address, and an admin is elsewhere', async () => {
    for (const options of [
      {},
      { host: 'localhost' },
      { host: '127.0.0.1', address: 'http://127.0.0.1:80/' },
      { address: 'http://0.0.0.0:9999/' },
    ]) {
      const { address, warned } = await start({ admins: [here, elsewhere], ...options });
      expect(warned, JSON.stringify(options)).toHaveLength(1);
      expect(warned[0]).toContain(`registers ${address}, which admins on other machines can't reach`);
    }
    const { warned } = await start({ admins: [elsewhere], address: 'http://executor.example:9999/' });
    expect(warned).toEqual([]);
  });

  it.runIf(external)('is one that others reach where the executor listens on every address and an admin is elsewhere', async () => {
    for (const host of ['0.0.0.0', '::']) {
      const { address, warned } = await start({ admins: [here, elsewhere], host });
      expect(address).toMatch(/^http:\/\/(\d+\.\d+\.\d+\.\d+):\d+\/$/);
      expect(address).not.toMatch(/127\.0\.0\.1|0\.0\.0\.0/);
      expect(warned).toEqual([]);
    }
  });

  it('does not wait for a name that nobody knows', async () => {
    const { unreached } = await ownHost('127.0.0.1', ['http://no-such-host.invalid/xxl-job-admin']);
    expect(unreached).toEqual(['http://no-such-host.invalid/xxl-job-admin']);
  });

  it('has brackets around an IPv6 address', () => {
    expect(httpAddress('::1', 9_999)).toBe('http://[::1]:9999/');
    expect(httpAddress('10.0.0.7', 80)).toBe('http://10.0.0.7:80/');
  });

  it('must be an address', () => {
    expect(() => createExecutor({ admins: [], appName: 'holdfast-test', handlers: {}, address: '10.0.0.7:9999' })).toThrow(/address is/);
  });
});
