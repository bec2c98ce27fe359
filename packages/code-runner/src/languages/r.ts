import { defineLanguage, type Language } from './language.ts';

/** Options of {@link r}. */
export interface ROptions {
  /** Container image on Kubernetes. Default `r-base:4.5.1`. */
  readonly image?: string;
}

/** R. A new task has `run.R`, and `run.sh`, which starts it. */
export function r(options: ROptions = {}): Language {
  return defineLanguage({
    name: 'r',
    title: 'R',
    template: {
      'run.R': 'cat("Hello from", R.version.string, "\\n")\n',
      'run.sh': 'exec Rscript run.R "$@"\n',
    },
    main: 'run.sh',
    image: options.image ?? 'r-base:4.5.1',
    requires: ['/usr/bin/Rscript'],
    interpreter: ['Rscript'],
    environment: { R_PROFILE_USER: '/dev/null', R_ENVIRON_USER: '/dev/null' },
  });
}
