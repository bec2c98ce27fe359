import { compareTexts } from '../../database/compare-texts.ts';

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
 * The conditions of a look with floors: one for each floor, one for each of `standing`, and one for each gap around them. `standing` are kinds
 * without a floor whose rows stay READY, since the kind is paused or unknown here: they must not hide the kinds behind them. The order of
 * JavaScript's texts may differ from the column's collation; a gap is then empty for the database, and a look without floors finds its groups.
 */
export function probesAround(floors: readonly GroupFloor[], kind: string, group: string, standing: readonly string[] = []): Probe[] {
  const floored = new Set(floors.map((floor) => floor.kind));
  const marks: Mark[] = [...floors, ...standing.filter((name) => !floored.has(name)).map((name) => ({ kind: name }))];
  const sorted = marks.sort((a, b) => compareTexts(a.kind, b.kind) || compareTexts(a.group ?? '', b.group ?? ''));
  const probes: Probe[] = [];
  const add = (order: string, where: string, ...params: readonly unknown[]): void => {
    probes.push({ where, params, order });
  };
  const grouped = kind !== group;
  const byGroup = `${group}, claim_rank`;
  const byKind = grouped ? `${kind}, ${group}, claim_rank` : `${kind}, claim_rank`;
  let last: Mark | undefined;
  const endOfKind = (): void => {
    if (grouped && last?.group !== undefined) add(byGroup, `${kind} = ? AND ${group} > ?`, last.kind, last.group);
  };
  for (const mark of sorted) {
    const name = mark.group;
    if (mark.kind !== last?.kind) {
      endOfKind();
      if (last) add(byKind, `${kind} > ? AND ${kind} < ?`, last.kind, mark.kind);
      else add(byKind, `${kind} < ?`, mark.kind);
      if (grouped && name) add(byGroup, `${kind} = ? AND ${group} < ?`, mark.kind, name);
    } else if (grouped) add(byGroup, `${kind} = ? AND ${group} > ? AND ${group} < ?`, mark.kind, last.group, name);
    if (mark.rank === undefined) add(grouped ? byGroup : 'claim_rank', `${kind} = ?`, mark.kind);
    else if (grouped) add('claim_rank', `${kind} = ? AND ${group} = ? AND claim_rank >= ?`, mark.kind, name, mark.rank);
    else add('claim_rank', `${kind} = ? AND claim_rank >= ?`, mark.kind, mark.rank);
    last = mark;
  }
  endOfKind();
  if (last) add(byKind, `${kind} > ?`, last.kind);
  return probes;
}

/** A floor, or a kind that stands. */
type Mark = Pick<GroupFloor, 'kind'> & Partial<GroupFloor>;
