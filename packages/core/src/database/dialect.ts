/** The databases whose SQL this package speaks. Most statements of `mysql` and `mariadb` are the same: see `Database.family`. */
export const dialects = ['postgres', 'mariadb', 'mysql', 'sqlite'] as const;
/** A database as statements are written for it. */
export type Dialect = (typeof dialects)[number];
