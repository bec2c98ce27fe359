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

/** The driver's connection of an open transaction. */
export async function transactionConnection(trx: Knex.Transaction): Promise<object> {
  return (await (trx.client as { acquireConnection(): Promise<object> }).acquireConnection()) as object;
}

/** The trace of the transaction that is open on `trx`'s connection. */
export async function transactionTrace(trx: Knex.Transaction): Promise<TransactionTrace> {
  const trace = traceConnection(await transactionConnection(trx));
  trace.entered();
  return trace;
}

/**
 * Calls `fn` once the ROOT transaction of `trx` has been committed. It is not called when that transaction rolls back, when the server
 * answers COMMIT with ROLLBACK, or when the nested transaction that registered it rolls back; the end of a nested transaction is not a
 * commit. If the process dies or the reply to COMMIT is lost, `fn` is never called: use it for hints only. `fn` may be async; nothing waits
 * for it, and its error is only logged.
 */
export async function afterCommit(trx: Knex.Transaction, fn: () => void): Promise<void> {
  requireTransaction(trx, 'afterCommit');
  (await transactionTrace(trx)).add(fn);
}
