/** Runs by their number, the latest first. Ids are numbers of up to 64 bits, as text: 10 comes after 9. */
export const newestFirst = (runs) => [...runs].sort((a, b) => b.id.length - a.id.length || (a.id < b.id ? 1 : -1));
