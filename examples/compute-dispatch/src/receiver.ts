import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { parseArgs, styleText } from 'node:util';
import { verifyWebhook } from '@holdfast/notifier/verify';
import { callbackEndpoint } from './callbacks.ts';
import { derivedKey, readConfig, readSecret } from './config.ts';

const usage = `Usage: npm start -- receiver [--port 8090] [--service http://127.0.0.1:8080] [--api-key hf_…] [--key whsec_…] [--fail N]

Registers itself as the callback address of the API key's tenant (default: demo of npm start in this folder), verifies what arrives, and prints it. With --key it registers nothing.
--fail N answers the first N attempts of each callback with 500, to watch them come again.`;

export const defaultReceiverPort = 8090;

/** The URL for callbacks of a receiver on this machine. */
export function receiverUrl(port: number): string {
  return `http://127.0.0.1:${port}/callbacks`;
}

interface Slot {
  readonly applyId: string;
  readonly state: string;
  readonly machineId: string | null;
}

/** A minimal receiver of a customer: it prints callbacks, and answers `success`. */
export async function runReceiver(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      port: { type: 'string', default: String(defaultReceiverPort) },
      service: { type: 'string', default: 'http://127.0.0.1:8080' },
      'api-key': { type: 'string' },
      key: { type: 'string' },
      fail: { type: 'string', default: '0' },
      help: { type: 'boolean' },
    },
  });
  if (values.help) {
    console.log(usage);
    return;
  }
  const failures = Number(values.fail);
  const seen = new Map<string, number>();
  let key = values.key ?? '';
  const server = createServer(async (request, response) => {
    try {
      const { id, sentAt, json } = await verifyWebhook(request, { keys: [key] });
      const times = (seen.get(id) ?? 0) + 1;
      seen.set(id, times);
      const { applyId, state, machineId } = json() as Slot;
      const again = times > 1 ? ` (time ${times})` : '';
      const refuse = times <= failures;
      console.log(
        `${sentAt?.toISOString().slice(11, 19)} ${styleText('green', 'verified')} ${state.padEnd(8)} slot ${applyId}${machineId ? ` on ${machineId}` : ''}${again}${refuse ? styleText('yellow', ' → answered 500') : ''}`,
      );
      response.writeHead(refuse ? 500 : 200, { 'content-type': 'text/plain' }).end(refuse ? 'not now' : 'success');
    } catch (error) {
      console.log(`${styleText('red', 'refused')}: ${(error as Error).message}`);
      response.writeHead(401, { 'content-type': 'text/plain' }).end((error as Error).message);
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(Number(values.port), '127.0.0.1', resolve);
  });
  const url = receiverUrl((server.address() as AddressInfo).port);
  if (values.key === undefined)
    key = await register(values.service, values['api-key'] ?? derivedKey(readSecret(readConfig(process.env)), 'demo'), url);
  console.log(
    `receiver is at ${url}${values.key === undefined ? `, and is the callback address of the tenant` : ''}. Apply for a batch to hear of it. Ctrl-C ends it.`,
  );
  const stop = (): void => {
    server.closeAllConnections();
    server.close(() => process.exit(0));
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
}

async function register(service: string, apiKey: string, url: string): Promise<string> {
  let response: Response;
  try {
    response = await fetch(`${service}/v1/callback-endpoint`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${apiKey}` },
      body: JSON.stringify({ url }),
    });
  } catch {
    throw new Error(`There is no service at ${service}; start it with npm start, or name it with --service.`);
  }
  if (!response.ok) throw new Error(`The service does not take ${url}: ${((await response.json()) as { detail: string }).detail}`);
  return callbackEndpoint.parse(await response.json()).key;
}
