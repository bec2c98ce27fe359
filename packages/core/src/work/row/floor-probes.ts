/** A group, and the rank at which a look at the group begins. */
export interface GroupFloor {
  readonly kind: string;
  readonly group: string;
  readonly rank: number;
}

/** One probe of a look: it finds the first READY row for which `where` holds. */
export interface Probe {
  readonly where: string;
  readonly params: readonly unknown[];
  readonly order: string;
}

/**
 * The conditions of a look with floors: one for each floor, and one for each gap around them. The order of JavaScript's texts may differ from
 * the column's collation; a gap is then empty for the database, and a look without floors finds its groups.
 */
export function probesAround(floors: readonly GroupFloor[], kind: string, group: string): Probe[] {
  const sorted = [...floors].sort((a, b) => compare(a.kind, b.kind) || compare(a.group, b.group));
  const probes: Probe[] = [];
  const add = (order: string, where: string, ...params: readonly unknown[]): void => {
    probes.push({ where, params, order });
  };
  const byGroup = `${group}, claim_rank`;
  const byKind = kind === group ? `${kind}, claim_rank` : `${kind}, ${group}, claim_rank`;
  let last: GroupFloor | undefined;
  for (const floor of sorted) {
    const sameKind = floor.kind === last?.kind;
    if (!sameKind) {
      if (last && kind !== group) add(byGroup, `${kind} = ? AND ${group} > ?`, last.kind, last.group);
      if (last) add(byKind, `${kind} > ? AND ${kind} < ?`, last.kind, floor.kind);
      else add(byKind, `${kind} < ?`, floor.kind);
      if (kind !== group && floor.group !== '') add(byGroup, `${kind} = ? AND ${group} < ?`, floor.kind, floor.group);
    } else if (last) add(byGroup, `${kind} = ? AND ${group} > ? AND ${group} < ?`, floor.kind, last.group, floor.group);
    if (kind === group) add('claim_rank', `${kind} = ? AND claim_rank >= ?`, floor.kind, floor.rank);
    else add('claim_rank', `${kind} = ? AND ${group} = ? AND claim_rank >= ?`, floor.kind, floor.group, floor.rank);
    last = floor;
  }
  if (last && kind !== group) add(byGroup, `${kind} = ? AND ${group} > ?`, last.kind, last.group);
  if (last) add(byKind, `${kind} > ?`, last.kind);
  return probes;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
