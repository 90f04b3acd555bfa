#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// What is started as `xlb`: the command line (cli.ts) as scripts/bundle.ts joins it, with what V8 has compiled of it before. Compiling is
// a fifth of what a command takes.
const { readFileSync }: typeof import('node:fs') = require('node:fs')
const { createRequire, wrap }: typeof import('node:module') = require('node:module')
const { dirname, join }: typeof import('node:path') = require('node:path')
const { Script }: typeof import('node:vm') = require('node:vm')

const bundle = join(__dirname, 'bundle', 'cli.cjs')

/** Of another Node, V8 refuses what is in this file, and compiles. */
const compiledBefore = (): { cachedData?: Buffer } => {
  try {
    return { cachedData: readFileSync(`${bundle}.cache`) }
  } catch {
    return {}
  }
}

// One octet a character, as the bundle is ASCII: a string of two takes longer to make and to hash.
const script = new Script(wrap(readFileSync(bundle, 'latin1')), { filename: bundle, ...compiledBefore() })
script.runInThisContext()({}, createRequire(bundle), {}, bundle, dirname(bundle))
