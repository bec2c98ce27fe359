import { ensurePrograms } from './services/programs.ts';

// Without bubblewrap the service runs no untrusted programs; everything else works. The service itself reports missing programs.
if (process.argv[2] !== 'receiver' && (process.env.DISPATCH_EXECUTOR ?? 'sandbox') === 'sandbox')
  await ensurePrograms(
    (name) => name === 'bubblewrap',
    (line) => {
      if (!line.includes('missing')) console.log(line);
    },
  );
await import('../examples/compute-dispatch/src/main.ts');
