// SPDX-License-Identifier: Apache-2.0
// A backend in maintenance: nothing reaches it, and it comes back as it was.
import { writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { BYTES, begin } from './download.ts'
import { hasRoot } from './lab.ts'
import { ask, list, tally, WAYS, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

// Who gets a packet does not depend on how it leaves: each mode once, each family once.
for (const { mode, family, name } of WAYS.filter((way) => (way.mode === 'native') === (way.family === 'IPv4'))) {
  labTest(
    `${name}: a backend in maintenance gets no packet, not even of its download, and comes back with its weight`,
    async (t) => {
      const download = await begin(t, mode, 'wrr', BYTES, family)
      const { lab, service, server, address, curl } = download
      const row = async () => (await list(lab)).services[0]?.backends.find((backend) => backend.address === address)
      await xlb(lab, ['backend', 'set', service, address, '--weight', '2'])
      const answer = await xlb(lab, ['backend', 'maint', service, address])
      t.regex(answer, /is in maintenance/)
      const during = tally(await ask(lab, 24))
      t.is(during[server], undefined)
      t.is(Object.keys(during).length, 2, 'both others take new connections')
      await download.release()
      t.is((await curl.ended).code, 56, 'curl: failure in receiving: connection reset by peer')
      t.like(await row(), { state: 'maint', weight: 2, effectiveWeight: 0 })

      const saved = await xlb(lab, ['save'])
      t.regex(saved, /admin: maint/)
      const file = join(tmpdir(), `${lab.prefix}.yaml`)
      writeFileSync(file, saved)
      t.teardown(() => lab.run('director', ['rm', '-f', file]))
      t.regex(await xlb(lab, ['diff', '-c', file]), /nothing would change/)
      t.regex(await xlb(lab, ['restore', file]), /nothing to change/)

      await xlb(lab, ['backend', 'set', service, address])
      t.like(await row(), { state: 'up', weight: 2, effectiveWeight: 2 })
      t.true((tally(await ask(lab, 24))[server] ?? 0) > 0, 'taken back in, it gets new connections')
    },
  )
}
