// SPDX-License-Identifier: Apache-2.0
// An instance of another contract: `xlb upgrade` says what differs and how to migrate, and touches nothing.
import { unlinkSync } from 'node:fs'
import test, { type ExecutionContext } from 'ava'
import { BPF_F_MMAPABLE, BPF_MAP_TYPE_ARRAY } from '../../src/dataplane/contract.ts'
import { Contract, Root } from '../../src/dataplane/layout.gen.ts'
import { MAPPED } from '../../src/dataplane/memory.ts'
import { mapPin, pathsOf } from '../../src/shell/instance.ts'
import { hasRoot, Lab } from './lab.ts'
import { clockOf, native, pinned, programsOf, tablesOf, useVersion } from './program.ts'
import { compileVariant } from './variant.ts'
import { ask, attach, backends, restore, save, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

const OURS = Contract.CONTRACT_VERSION
const MEND =
  /with the xlb that attached it: xlb save -o FILE, then xlb detach --all; with this one: xlb restore --attach FILE/

/** A lab with a service, whose program is of another version: an upgrade has something to do. */
const begin = async (t: ExecutionContext): Promise<Lab> => {
  const lab = await Lab.up(t, { servers: 1 })
  await Promise.all([lab.http(1, 80), attach(lab)])
  await restore(lab, [{ service: `tcp://${lab.vip}:80`, scheduler: 'rr', backends: backends(lab, 1) }])
  useVersion(lab, compileVariant(1)).close()
  return lab
}

/** `xlb upgrade`, with and without --check, is refused with these words, and changes nothing. */
const refuses = async (t: ExecutionContext, lab: Lab, ...says: string[]): Promise<void> => {
  const state = () => [programsOf(lab), clockOf(lab), tablesOf(lab), pinned(lab)]
  const before = state()
  for (const more of [[], ['--check']]) {
    const { code, stdout, stderr } = await lab.xlb(['upgrade', ...more])
    t.is(code, 1)
    t.is(stdout, '')
    const [first, ...lines] = stderr.trimEnd().split('\n')
    t.is(first, `xlb: instance ${lab.instance()} is of another contract, and was left as it is`)
    t.deepEqual(
      lines.slice(0, -1).map((line) => line.trim()),
      says,
    )
    t.regex(lines.at(-1) ?? '', MEND)
  }
  const { code, stderr } = await lab.xlb(['upgrade', '--json'])
  const { error } = JSON.parse(stderr) as { error: { what: string; mend: string } }
  t.is(code, 1)
  t.regex(error.mend, MEND)
  t.true(says.every((line) => error.what.includes(line)))
  t.deepEqual(state(), before)
}

const setVersion = (lab: Lab, version: number): void => {
  const map = native.openMap(mapPin(pathsOf(lab.instance()).pins, 'root'))
  new DataView(map.mmap()).setUint32(Root.offset.contract, version, true)
  map.unmap()
  map.close()
}

labTest(
  'another contract version is refused, with both versions and the way to migrate, and packets go on',
  async (t) => {
    const lab = await begin(t)
    const saved = await save(lab)
    setVersion(lab, OURS + 41)
    const fault = `what is pinned speaks version ${OURS + 41} of the map layouts, this xlb version ${OURS}`
    await refuses(t, lab, fault)
    for (const verb of [['list'], ['save'], ['clear'], ['attach', 'eth0'], ['detach', '--all']]) {
      const { code, stderr } = await lab.xlb(verb)
      t.is(code, 1, verb.join(' '))
      t.true(stderr.includes(fault), stderr)
      t.regex(stderr, MEND, `${verb.join(' ')} says the same`)
    }
    t.deepEqual(await ask(lab, 2), ['rs1', 'rs1'])
    setVersion(lab, OURS)
    t.is(await save(lab), saved)
    t.regex(await xlb(lab, ['upgrade']), /^eth0: replaced /)
  },
)

labTest(
  'tables of another shape are refused, each with what differs, also where the version is the same',
  async (t) => {
    const lab = await begin(t)
    const pin = (name: string) => mapPin(pathsOf(lab.instance()).pins, name)
    const rings = native.openMap(pin('rings'))
    const cursors = native.openMap(pin('cursors'))
    const odd = MAPPED.rings * 3
    const make = (name: string, octets: number) => {
      const map = native.createMap(name, BPF_MAP_TYPE_ARRAY, 4, octets, 1, BPF_F_MMAPABLE)
      map.pin(pin(name))
      map.close()
    }
    unlinkSync(pin('rings'))
    make('rings', odd)
    make('strange', 64)
    unlinkSync(pin('cursors'))
    await refuses(
      t,
      lab,
      `table rings: has ${odd} octets, which is no power of two of elements of ${MAPPED.rings}`,
      'table cursors: is not there',
      'table strange: is not known to this xlb',
    )
    t.deepEqual(await ask(lab, 2), ['rs1', 'rs1'], 'the program has its tables open')
    unlinkSync(pin('rings'))
    unlinkSync(pin('strange'))
    rings.pin(pin('rings'))
    cursors.pin(pin('cursors'))
    rings.close()
    cursors.close()
    t.regex(await xlb(lab, ['upgrade']), /^eth0: replaced /)
    t.deepEqual(await ask(lab, 2), ['rs1', 'rs1'])
  },
)
