import { errorPages } from './pages.ts';

const list = (items: readonly string[]): string => items.map((item) => `- ${item}`).join('\n');

export default {
  paths: () =>
    errorPages.map(({ code, error, from, retryable, means, because, next }) => ({
      params: { code },
      content: `${means}

| | |
| --- | --- |
| class | \`${error}\` of \`@holdfast/${from}\` |
| \`retryable\` | ${retryable === 'sometimes' ? 'as the error says' : `\`${retryable}\``} |
| decide by | \`error.code === '${code}'\`, or \`HoldfastError.is(error, '${code}')\`, which also knows errors of another installed copy |

## Why it happens

${list(because)}

## What to do

${list(next)}
`,
    })),
};
