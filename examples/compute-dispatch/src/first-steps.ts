import { styleText } from 'node:util';
import type { Dispatch } from './dispatch.ts';
import { DispatchError } from './errors.ts';
import { defaultReceiverPort, receiverUrl } from './receiver.ts';

export interface FirstSteps {
  readonly dispatch: Dispatch;
  readonly address: string;
  readonly adminKey: string;
  readonly tenantKey: string;
  /** A sentence about algorithm tasks. */
  readonly problem: string;
}

/** Prints addresses and commands to try, and places a first order, so that the page has something to show. */
export async function firstSteps({ dispatch, address, adminKey, tenantKey, problem }: FirstSteps): Promise<void> {
  const bold = (text: string): string => styleText('bold', text);
  const step = (text: string, command: string): void => console.log(`\n  ${styleText('dim', `# ${text}`)}\n  ${command}`);
  console.log(`\ncompute-dispatch is at ${bold(`${address}/#key=${adminKey}`)}\n`);
  console.log(`That is its page, with the operators' key. The API is under ${address}/v1, its reference at ${address}/docs.`);
  const first = await firstOrder(dispatch);
  if (first)
    console.log(`Batch ${first} has been ordered for you: 12 machines, switched on as soon as 4 are granted. Watch it on the page.`);
  console.log(`\nTry next, as the customer ${bold('demo')}:`);
  console.log(`\n  export KEY=${tenantKey}`);
  const auth = '-H "authorization: Bearer $KEY"';
  const json = "-H 'content-type: application/json'";
  step(
    'order again, by a number of yours: the same request twice is one order',
    `curl -s ${address}/v1/batches ${auth} ${json} -d '{"businessOrderNo":"order-1","packageId":"standard","count":8,"minimum":2,"applyDurationMinutes":1}'`,
  );
  step('what became of it', `curl -s '${address}/v1/batches?limit=1' ${auth}`);
  step('hear of every change, in order', `curl -s '${address}/v1/events?after=0&limit=20' ${auth}`);
  step('what it costs', `curl -s ${address}/v1/usage ${auth}`);
  step(
    'give back what the first order has (its id is above, or in the list)',
    `curl -s -X POST ${address}/v1/batches/${first ?? 'ID'}/release ${auth}`,
  );
  console.log(
    `\nHear of it as a customer does, in another terminal: npm start -- receiver${address.endsWith(':8080') ? '' : ` --service ${address}`}`,
  );
  console.log(problem);
}

/** An order needs an address for callbacks. That of the tenant demo is where `npm start -- receiver` listens, until another is registered. */
export async function registerReceiver(dispatch: Dispatch): Promise<void> {
  if (await dispatch.callbacks.endpoint('demo')) return;
  try {
    await dispatch.callbacks.register('demo', receiverUrl(defaultReceiverPort));
  } catch (err) {
    if (!(err instanceof DispatchError)) throw err;
    dispatch.logger.warn({ err }, 'the tenant demo has no callback address: its orders must name one as notifyUrl, with notifySignKey');
  }
}

/** Places an order once per database, when the room has listed its machines. */
async function firstOrder(dispatch: Dispatch): Promise<string | undefined> {
  for (let i = 0; i < 100; i++) {
    if (await dispatch.knex('dispatch_machine').first()) break;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  try {
    const { batch } = await dispatch.apply('demo', {
      businessOrderNo: 'first-order',
      packageId: 'standard',
      count: 12,
      minimum: 4,
      policy: 'min_then_fill',
      applyDurationMinutes: 2,
    });
    return batch.id;
  } catch (error) {
    if (error instanceof DispatchError) return undefined;
    throw error;
  }
}
