/** The databases whose SQL this package speaks. Most statements of `mysql` and `mariadb` are the same: see `Database.family`. */
export const dialects = ['postgres', 'mariadb', 'mysql', 'sqlite'] as const;
/** One of the `dialects`. */
export type Dialect = (typeof dialects)[number];
