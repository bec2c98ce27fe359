import { expect, it } from 'vitest';
import { Batcher } from '../src/index.ts';

const results = async (batcher: Batcher<string, string>, items: readonly string[]): Promise<readonly string[]> =>
  (await Promise.allSettled(items.map((item) => batcher.call(item)))).map((one) =>
    one.status === 'fulfilled' ? one.value : `refused: ${(one.reason as Error).message}`,
  );
const refuse = (batches: string[][]) => async (items: readonly string[]) => {
  batches.push([...items]);
  if (items.includes('bad')) throw new Error('bad');
  return items.map((item) => item.toUpperCase());
};

it('joins the calls of one turn, and fails all of a batch that failed', async () => {
  const batches: string[][] = [];
  const batcher = new Batcher({ run: refuse(batches), size: 3 });
  expect(await results(batcher, ['a', 'bad', 'c', 'd'])).toEqual(['refused: bad', 'refused: bad', 'refused: bad', 'D']);
  expect(batches).toEqual([['a', 'bad', 'c'], ['d']]);
});

it('handles each item of a failed batch alone where that is safe', async () => {
  const batches: string[][] = [];
  const batcher = new Batcher({ run: refuse(batches), alone: () => true });
  expect(await results(batcher, ['a', 'bad', 'c'])).toEqual(['A', 'refused: bad', 'C']);
  expect(batches).toEqual([['a', 'bad', 'c'], ['a'], ['bad'], ['c']]);
});

it('handles no item again after an error that leaves open whether the batch was handled', async () => {
  const batches: string[][] = [];
  const batcher = new Batcher({ run: refuse(batches), alone: (error) => (error as Error).message !== 'bad' });
  expect(await results(batcher, ['a', 'bad'])).toEqual(['refused: bad', 'refused: bad']);
  expect(batches).toHaveLength(1);
});
