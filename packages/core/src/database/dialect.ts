/** The databases whose SQL this package speaks. `mysql` and `mariadb` share their statements but for RETURNING. */
export const dialects = ['postgres', 'mariadb', 'mysql', 'sqlite'] as const;
/** A database as statements are written for it. */
export type Dialect = (typeof dialects)[number];
