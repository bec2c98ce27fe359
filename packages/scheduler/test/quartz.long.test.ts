import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { mavenJars } from '../../../tooling/services/maven-jars.ts';
import { cron, preview } from '../src/index.ts';
import { randomQuartz, seeded } from './random-quartz.ts';

const expressions = 10_000;
const firesEach = 20;
/** Quartz gives up a hundred years after the present one. */
const quartzEnds = Date.UTC(new Date().getUTCFullYear() + 99, 0, 1);

/** The next fires; none for an expression that is refused since it can never fire. */
function firesOf(text: string, zone: string, from: number): readonly number[] {
  try {
    return preview(cron(text, { dialect: 'quartz', zone }), { from: new Date(from), count: firesEach }).map(Number);
  } catch (error) {
    if (/can never fire/.test(String(error))) return [];
    throw error;
  }
}

describe('an expression of the dialect quartz', () => {
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-quartz-'));
  let classpath: string;
  beforeAll(() => {
    const jars = mavenJars('org.quartz-scheduler', 'quartz', '2.3.2');
    classpath = [folder, ...readdirSync(jars).map((name) => join(jars, name))].join(':');
    execFileSync('javac', ['-cp', classpath, '-d', folder, join(import.meta.dirname, 'java', 'Fires.java')], { stdio: 'inherit' });
  }, 240_000);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it(`fires when Quartz itself fires: ${expressions} random expressions, the next ${firesEach} fires of each`, { timeout: 120_000 }, () => {
    const seed = Number(process.env.HOLDFAST_SEED ?? 20261130);
    const random = seeded(seed);
    const cases = Array.from({ length: expressions }, () => ({
      zone: random() < 0.5 ? 'UTC' : 'Asia/Shanghai',
      from: Date.UTC(2026, 0, 1) + Math.floor(random() * 30_000_000) * 1000,
      text: randomQuartz(random),
    }));
    const input = `${cases.map(({ zone, from, text }) => `${zone}\t${from}\t${text}`).join('\n')}\n`;
    const answers = execFileSync('java', ['-cp', classpath, 'Fires'], { input, maxBuffer: 2 ** 28, stdio: ['pipe', 'pipe', 'ignore'] })
      .toString()
      .trimEnd()
      .split('\n');
    expect(answers).toHaveLength(expressions);
    let compared = 0;
    const different: string[] = [];
    for (const [i, { zone, from, text }] of cases.entries()) {
      const [verdict, ...theirs] = (answers[i] ?? '').split('\t');
      // Quartz refuses names that are mixed with numbers, and ignores steps after names, which we refuse.
      if (verdict !== 'ok' || /[A-Z]{3}\//.test(text)) continue;
      const ours = firesOf(text, zone, from);
      compared++;
      const known = ours.filter((at) => at < quartzEnds);
      if (
        known.join() !==
        theirs
          .map(Number)
          .filter((at) => at < quartzEnds)
          .slice(0, known.length)
          .join()
      )
        different.push(`${text} in ${zone} after ${new Date(from).toISOString()}: ours ${ours[0]}, Quartz ${theirs[0]}`);
    }
    expect(different, `seed ${seed}`).toEqual([]);
    expect(compared).toBeGreaterThan(expressions * 0.8);
  });
});
