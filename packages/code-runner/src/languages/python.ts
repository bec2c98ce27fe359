import { defineLanguage, type Language } from './language.ts';

/** Options of {@link python}. */
export interface PythonOptions {
  /** Path of the interpreter on this machine, for the local sandbox. Default `/usr/bin/python3`. */
  readonly binary?: string;
  /** Container image on Kubernetes. Default `python:3.13-slim`. */
  readonly image?: string;
}

/** Python 3. A new task has `run.py`, which its runs start, and `run.sh`, for a start of your own: choose it with `setMain`. */
export function python(options: PythonOptions = {}): Language {
  const binary = options.binary ?? '/usr/bin/python3';
  return defineLanguage({
    name: 'python',
    title: 'Python',
    template: {
      'run.py': 'import sys\n\nprint("Hello from Python", sys.version.split()[0])\n',
      'run.sh': 'exec python3 run.py "$@"\n',
    },
    main: 'run.py',
    image: options.image ?? 'python:3.13-slim',
    requires: [binary],
    interpreter: ['python3'],
    // Unbuffered output, and no caches beside the sources, which are read-only.
    environment: { PYTHONUNBUFFERED: '1', PYTHONDONTWRITEBYTECODE: '1', PYTHONIOENCODING: 'utf-8' },
  });
}
