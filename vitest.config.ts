import { defineConfig } from 'vitest/config';

const conditions = ['@holdfast/source', 'node'];

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    include: [
      'packages/*/{src,test}/**/*.test.ts',
      'examples/*/{src,test}/**/*.test.ts',
      'tooling/**/*.test.ts',
      '{bench,chaos,docs}/**/*.test.ts',
    ],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    // On two cores: most tests wait for their servers, which need the rest.
    maxWorkers: 3,
    pool: 'forks',
    execArgv: ['--conditions=@holdfast/source', '--disable-warning=ExperimentalWarning'],
  },
});
