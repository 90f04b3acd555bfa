// SPDX-License-Identifier: Apache-2.0
// Connections that are open while their backend is drained, gets weight 0, is removed, or dies.
import test from 'ava'
import { BYTES, begin, endsWhole } from './download.ts'
import { hasRoot, inUrl, type Lab } from './lab.ts'
import type { Tracked } from './process.ts'
import { ask, list, tally, WAYS, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

for (const { mode, family, name } of WAYS) {
  // How packets leave does not depend on who chose the backend: one scheduler will do for generic.
  for (const scheduler of mode === 'native' ? ['rr', 'wrr', 'mh'] : ['mh']) {
    labTest(
      `${name}, ${scheduler}: a drained backend ends its download whole and gets no new connection`,
      async (t) => {
        const download = await begin(t, mode, scheduler, BYTES, family)
        const { lab, service, server, address } = download
        await xlb(lab, ['backend', 'drain', service, address])
        const during = tally(await ask(lab, 24))
        t.is(during[server], undefined)
        t.is(Object.keys(during).length, 2, 'both others take new connections')
        t.true(download.curl.running)
        await endsWhole(t, download)
        const row = (await list(lab)).services[0]?.backends.find((backend) => backend.address === address)
        t.is(row?.state, 'drain')
        t.is(row?.effectiveWeight, 0)
        await xlb(lab, ['backend', 'set', service, address])
        t.true(((await tallyAfter(lab))[server] ?? 0) > 0, 'taken back in, it gets new connections')
      },
    )
  }

  labTest(`${name}: a backend of weight 0 ends its download whole and gets no new connection`, async (t) => {
    const download = await begin(t, mode, 'wrr', BYTES, family)
    const { lab, service, server, address } = download
    await xlb(lab, ['backend', 'set', service, address, '--weight', '0'])
    t.is(tally(await ask(lab, 12))[server], undefined)
    t.true(download.curl.running)
    await endsWhole(t, download)
    t.is((await list(lab)).services[0]?.backends.find((row) => row.address === address)?.state, 'weight-0')
  })

  labTest(`${name}: a removed backend gets nothing, and its download is reset by whom it goes to then`, async (t) => {
    const download = await begin(t, mode, 'rr', BYTES, family)
    const { lab, service, server, address, curl } = download
    await xlb(lab, ['backend', 'rm', service, address])
    t.is(tally(await ask(lab, 12))[server], undefined)
    await download.release()
    t.is((await curl.ended).code, 56, 'curl: failure in receiving: connection reset by peer')
    const rows = (await list(lab)).services[0]?.backends ?? []
    t.false(rows.some((row) => row.address === address))
    t.is(rows.length, 2)
  })

  labTest(`${name}: killing a real server's process fails its own connections, and no other's`, async (t) => {
    const download = await begin(t, mode, 'rr', BYTES, family)
    const { lab, service, server, address } = download
    // rr has given out one turn; two more, held as well, are the other two servers'.
    const others = await Promise.all([hold(lab), hold(lab)])
    t.deepEqual([server, ...others.map((each) => each.stdout.slice(0, 3))].sort(), ['rs1', 'rs2', 'rs3'])
    const dead = download.servers[Number(server.slice(2)) - 1]
    await dead?.stop('SIGKILL')
    t.not((await download.curl.ended).code, 0)
    const codes = []
    for (let i = 0; i < 6; i++) codes.push((await lab.curl(`http://${lab.vipInUrl}/`)).code)
    t.deepEqual(codes.sort(), [0, 0, 0, 0, 7, 7], 'a third of new connections is refused, by the dead server’s host')
    await xlb(lab, ['backend', 'drain', service, address])
    t.is((await ask(lab, 6)).length, 6, 'none is once it is drained')
    for (const each of others) {
      t.true(each.running)
      await lab.curl(`http://${inUrl(lab.host(each.stdout.slice(0, 3)).address)}/release`)
      const { code, stdout } = await each.ended
      t.is(code, 0)
      t.is(stdout.length, BYTES)
    }
  })
}

const tallyAfter = async (lab: Lab): Promise<Record<string, number>> => tally(await ask(lab, 24))

/** One more download that stands half way. */
const hold = async (lab: Lab): Promise<Tracked> => {
  const curl = lab.spawn('client', ['curl', '-sSN', '--max-time', '30', `http://${lab.vipInUrl}/held?bytes=${BYTES}`])
  await curl.waitFor(/rs\d/)
  return curl
}
