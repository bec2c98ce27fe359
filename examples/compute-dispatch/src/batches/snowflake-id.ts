import { createRequire } from 'node:module';

/** The generator of npm's `snowflake-id`, a CommonJS module without types, whose class Node and Vite would import under different names. */
export const { default: SnowflakeId } = createRequire(import.meta.url)('snowflake-id') as {
  readonly default: new (options: { readonly mid: number; readonly offset: number }) => { generate(): string };
};
