// SPDX-License-Identifier: Apache-2.0
// Runs xlb many times in one process, one after the other: most of what a refused command takes is Node's start. Standard input is a JSON
// list of lists of words, standard output one of { code, stdout, stderr }.
const { readFileSync } = require('node:fs')

const XLB = require.resolve('../../dist/xlb.cjs')
const commands = JSON.parse(readFileSync(0, 'utf8'))
const results = []
const print = process.stdout.write.bind(process.stdout)
let current

for (const stream of ['stdout', 'stderr']) {
  process[stream].write = (text) => {
    current[stream] += text
    return true
  }
}

/** When nothing is left to do, a command has ended. */
process.on('beforeExit', () => {
  if (current !== undefined) results.push({ ...current, code: process.exitCode ?? 0 })
  process.exitCode = undefined
  current = undefined
  const words = commands[results.length]
  if (words === undefined) {
    process.removeAllListeners('beforeExit')
    print(JSON.stringify(results))
    return
  }
  current = { stdout: '', stderr: '' }
  process.argv = [process.execPath, XLB, ...words]
  delete require.cache[XLB]
  require(XLB)
  // A command that waits for nothing would not be told of.
  setImmediate(() => {})
})
