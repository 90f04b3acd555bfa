// SPDX-License-Identifier: Apache-2.0
// An upgrade that is killed just before or just after its Nth link update, on an attached instance:
//
//   node --import tsx test/lab/upgrade-killed.ts INSTANCE before|after N
import { loadNative } from '../../src/dataplane/native.ts'
import { pathsOf } from '../../src/shell/instance.ts'
import { upgrade } from '../../src/shell/upgrade.ts'
import { withUpdates } from './program.ts'

const [instance = '', moment = '', number = ''] = process.argv.slice(2)

const native = withUpdates(loadNative(), (update, nth) => {
  const die = nth === Number(number)
  if (die && moment === 'before') process.kill(process.pid, 'SIGKILL')
  update()
  if (die && moment === 'after') process.kill(process.pid, 'SIGKILL')
})

upgrade(native, pathsOf(instance), { check: false })
