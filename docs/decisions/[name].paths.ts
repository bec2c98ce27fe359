import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const folder = join(import.meta.dirname, '..', '..', 'contributing', 'decisions');
const source = 'https://github.com/holdfast-dev/holdfast/blob/main/';

/** Decision records stand with the code; here they are pages. What they link to in the code is linked there. */
export default {
  paths: () =>
    readdirSync(folder)
      .filter((name) => name.endsWith('.md'))
      .map((name) => ({
        params: { name: name.slice(0, -3) },
        content: readFileSync(join(folder, name), 'utf8').replaceAll(/\]\((?:\.\.\/)+([^)]+)\)/g, (_, path) => `](${source}${path})`),
      })),
};
