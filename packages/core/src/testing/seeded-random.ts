/** Park and Miller's generator: numbers from 0 to 1, the same for the same seed, so that what a test did can be done again. */
export function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}
