import { ensurePrograms } from './services/programs.ts';

// Without bubblewrap no programs of strangers are run; all else works. What is missing the service says itself.
if (process.argv[2] !== 'receiver' && (process.env.DISPATCH_EXECUTOR ?? 'sandbox') === 'sandbox')
  await ensurePrograms(
    (name) => name === 'bubblewrap',
    (line) => {
      if (!line.includes('missing')) console.log(line);
    },
  );
await import('../examples/compute-dispatch/src/main.ts');
