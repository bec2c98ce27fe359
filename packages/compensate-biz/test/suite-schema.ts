import type { StandardSchemaV1 } from '@standard-schema/spec';

/** A Standard Schema that checks one thing, so that tests need no schema library. */
export function schemaOf<T>(check: (value: unknown) => string | undefined = () => undefined): StandardSchemaV1<T, T> {
  return {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate: (value) => {
        const issue = check(value);
        return issue === undefined ? { value: value as T } : { issues: [{ message: issue, path: ['field'] }] };
      },
    },
  };
}

export const any: StandardSchemaV1<Record<string, unknown>, Record<string, unknown>> = schemaOf((value) =>
  typeof value === 'object' && value !== null ? undefined : 'must be an object',
);
