import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { serviceFolder } from './process-record.ts';

/** The folder of a library's jars and of those that it needs, by Maven into `.services/<artifact>/<version>`, whole or not at all. */
export function mavenJars(group: string, artifact: string, version: string): string {
  const jars = join(serviceFolder(artifact), version);
  if (existsSync(jars)) return jars;
  const partial = `${jars}.partial`;
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial, { recursive: true });
  const pom = join(partial, 'pom.xml');
  const dependency = `<groupId>${group}</groupId><artifactId>${artifact}</artifactId><version>${version}</version>`;
  writeFileSync(
    pom,
    `<project><modelVersion>4.0.0</modelVersion><groupId>holdfast</groupId><artifactId>jars</artifactId><version>1</version><dependencies><dependency>${dependency}</dependency></dependencies></project>`,
  );
  execFileSync('mvn', ['-q', '-B', '-f', pom, 'dependency:copy-dependencies', '-DincludeScope=runtime', `-DoutputDirectory=${partial}`], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  renameSync(partial, jars);
  return jars;
}
