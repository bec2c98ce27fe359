/** Keys by reference, for tests and the processes that they kill. */
export const keys: Readonly<Record<string, string | readonly string[]>> = {
  k: `whsec_${Buffer.alloc(24, 1).toString('base64')}`,
  other: `whsec_${Buffer.alloc(32, 2).toString('base64')}`,
  unfit: 'no base64 at all',
  plain: '192006250b4c09247ec02edce69f6a2d',
};
