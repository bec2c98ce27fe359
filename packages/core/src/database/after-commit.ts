import type { Knex } from 'knex';
import { NotInTransactionError } from '../errors/errors.ts';
import { type TransactionTrace, traceConnection } from './connection-hooks.ts';

/** @throws NotInTransactionError unless `trx` is an open transaction. */
export function requireTransaction(trx: Knex | Knex.Transaction, what: string): asserts trx is Knex.Transaction {
  const candidate = trx as Partial<Knex.Transaction>;
  if (typeof trx !== 'function' || candidate.isTransaction !== true) {
    throw new NotInTransactionError(
      `${what} needs the transaction that it is to commit with; pass the trx of knex.transaction(async (trx) => …), not the knex instance.`,
    );
  }
  if (candidate.isCompleted?.()) {
    throw new NotInTransactionError(`${what} was called after its transaction had ended; await it inside the transaction's callback.`);
  }
}

/** The raw driver connection of an open transaction. */
export async function transactionConnection(trx: Knex.Transaction): Promise<object> {
  return (await (trx.client as { acquireConnection(): Promise<object> }).acquireConnection()) as object;
}

/** What is known of the transaction that is open on `trx`'s connection. */
export async function transactionTrace(trx: Knex.Transaction): Promise<TransactionTrace> {
  const trace = traceConnection(await transactionConnection(trx));
  trace.entered();
  return trace;
}

/**
 * Calls `fn` once the ROOT transaction of `trx` has really been committed: not when it rolled back, not at the end of a
 * nested one, not when a nested one that registered it was rolled back, and not when the server answered COMMIT with
 * ROLLBACK. If the process dies or the reply to COMMIT is lost, `fn` is never called: use it for hints only.
 */
export async function afterCommit(trx: Knex.Transaction, fn: () => void): Promise<void> {
  requireTransaction(trx, 'afterCommit');
  (await transactionTrace(trx)).add(fn);
}
