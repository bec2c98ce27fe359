import { defineLanguage, type Language } from './language.ts';

/** Which Python, and with which packages. */
export interface PythonOptions {
  /** Of this machine. Default `/usr/bin/python3`. */
  readonly binary?: string;
  /** Default `python:3.13-slim`. */
  readonly image?: string;
}

/** Python 3. A new task is `run.py`, and `run.sh` that starts it. */
export function python(options: PythonOptions = {}): Language {
  const binary = options.binary ?? '/usr/bin/python3';
  return defineLanguage({
    name: 'python',
    title: 'Python',
    template: {
      'run.py': 'import sys\n\nprint("Hello from Python", sys.version.split()[0])\n',
      'run.sh': 'exec python3 run.py "$@"\n',
    },
    main: 'run.sh',
    image: options.image ?? 'python:3.13-slim',
    requires: [binary],
    interpreter: ['python3'],
    // Output line by line, as it is printed; no caches beside sources that can't be written.
    environment: { PYTHONUNBUFFERED: '1', PYTHONDONTWRITEBYTECODE: '1', PYTHONIOENCODING: 'utf-8' },
  });
}
