/** Park and Miller's generator: numbers from 0 to 1, the same for the same seed, so that a run of a test can be repeated. */
export function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}
