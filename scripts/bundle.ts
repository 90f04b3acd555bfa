// SPDX-License-Identifier: Apache-2.0
// Joins the command line and all its verbs, which Node would find, read, compile and link as some 200 files, into one: dist/bundle/cli.cjs,
// beside which lies what V8 makes of it. dist/xlb.cjs runs it. Takes what tsc wrote into dist/.
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import Module from 'node:module'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import v8 from 'node:v8'
import { Script } from 'node:vm'
import { type BuildOptions, build, type Plugin } from 'esbuild'

const dist = fileURLToPath(new URL('../dist', import.meta.url))
const folder = join(dist, 'bundle')
const file = join(folder, 'cli.cjs')

/** Found and loaded when a daemon starts: no command pays for them. */
const DAEMON_LIBRARIES = ['fastify', '@fastify/swagger', 'pino', 'prom-client']
/** Loaded where a file of services is read or written, each a file of its own. */
const FILE_LIBRARIES = ['zod', 'js-yaml']

const libraryFiles: Plugin = {
  name: 'library files',
  setup: ({ onResolve }) =>
    onResolve({ filter: new RegExp(`^(${FILE_LIBRARIES.join('|')})$`) }, ({ path }) => ({
      path: `./${path}.cjs`,
      external: true,
    })),
}

const common: BuildOptions = {
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node20.19',
  // dist/xlb.cjs reads octets as characters.
  charset: 'ascii',
  logLevel: 'warning',
}

rmSync(folder, { recursive: true, force: true })
await build({
  ...common,
  entryPoints: [join(dist, 'cli.js')],
  outfile: file,
  external: DAEMON_LIBRARIES,
  plugins: [libraryFiles],
  // Modules name the addon and the programs relative to themselves: the bundle lies one folder deep, as they did.
  define: { 'import.meta.url': 'bundleUrl', 'import.meta.filename': '__filename' },
  banner: { js: "const bundleUrl = require('node:url').pathToFileURL(__filename).href;" },
})
for (const library of FILE_LIBRARIES) {
  const stdin = { contents: `export * from '${library}'`, resolveDir: dist }
  await build({ ...common, stdin, outfile: join(folder, `${library}.cjs`) })
}

// All functions, and not those alone that run at once. V8 tells by its flags whether it may take what was compiled, so that they have to be
// as they will be when it is written.
v8.setFlagsFromString('--no-lazy')
const script = new Script(Module.wrap(readFileSync(file, 'latin1')), { filename: file })
v8.setFlagsFromString('--lazy')
writeFileSync(`${file}.cache`, script.createCachedData())
