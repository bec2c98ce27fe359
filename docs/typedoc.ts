// Writes the API reference from the doc comments, one page per entry point. Fails where an exported symbol has none.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Application, type TypeDocOptions } from 'typedoc';
import type { PluginOptions } from 'typedoc-plugin-markdown';

const root = join(import.meta.dirname, '..');

interface Manifest {
  readonly name: string;
  readonly exports: Readonly<Record<string, string | { readonly '@holdfast/source': string }>>;
}

const packages = readdirSync(join(root, 'packages')).map((folder) => ({
  folder,
  manifest: JSON.parse(readFileSync(join(root, 'packages', folder, 'package.json'), 'utf8')) as Manifest,
}));

/** Every entry point that a package publishes. */
const entryPoints = packages.flatMap(({ folder, manifest }) =>
  Object.values(manifest.exports).flatMap((target) =>
    typeof target === 'string' ? [] : [join(root, 'packages', folder, target['@holdfast/source'])],
  ),
);

const options: Partial<TypeDocOptions & PluginOptions> = {
  entryPoints,
  // This folder is emptied.
  out: join(import.meta.dirname, 'api'),
  tsconfig: join(import.meta.dirname, 'tsconfig.api.json'),
  plugin: ['typedoc-plugin-markdown'],
  basePath: join(root, 'packages'),
  displayBasePath: join(root, 'packages'),
  readme: 'none',
  excludePrivate: true,
  excludeInternal: true,
  disableSources: true,
  githubPages: false,
  router: 'module',
  entryFileName: 'index',
  hidePageHeader: true,
  hideBreadcrumbs: true,
  useCodeBlocks: true,
  useHTMLAnchors: true,
  parametersFormat: 'table',
  interfacePropertiesFormat: 'table',
  propertyMembersFormat: 'table',
  typeDeclarationFormat: 'table',
  sanitizeComments: true,
  validation: { notExported: false, invalidLink: true, notDocumented: true },
  requiredToBeDocumented: ['Class', 'Interface', 'Function', 'TypeAlias', 'Variable', 'Enum', 'Method'],
  packagesRequiringDocumentation: packages.map(({ manifest }) => manifest.name),
  // Shapes written in place: what they belong to says what they are.
  intentionallyNotDocumented: [
    'core/src.Database.rawConnection.__type.close',
    'outbox/src.TrackedTable.in.__type.publish',
    'code-runner/src.ExecutionSpec.files.__type.open',
    'code-runner/src.ExecutionSpec.dataSets.__type.open',
    'compensate-biz/src.CompensateBiz.now.__type.fanOut',
  ],
  treatValidationWarningsAsErrors: true,
  name: 'API reference',
};
const app = await Application.bootstrapWithPlugins(options as TypeDocOptions);
const project = await app.convert();
if (!project) process.exit(1);
app.validate(project);
if (app.logger.hasErrors() || app.logger.hasWarnings()) process.exit(1);
// Named as they are imported: `outbox/src` is `outbox`, `broker/src/kafka` is `broker/kafka`.
for (const module of project.children ?? []) module.name = module.name.replace('/src', '');
await app.generateOutputs(project);
