// SPDX-License-Identifier: Apache-2.0
// packaging/systemd: what systemd says of the units, and what becomes of them in a real one.
import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { build } from 'esbuild'
import { hasRoot } from './lab.ts'
import { Tracked } from './process.ts'
import { until } from './xlb.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const UNITS = join(root, 'packaging/systemd')
const SYSTEMD = '/lib/systemd/systemd'
const CGROUPS = existsSync('/sys/fs/cgroup/cgroup.procs') ? '/sys/fs/cgroup' : '/sys/fs/cgroup/unified'

const runs = (command: string, ...argv: string[]) => spawnSync(command, argv, { encoding: 'utf8' })
const analyzeTest = runs('systemd-analyze', '--version').status === 0 ? test.serial : test.serial.skip
const canBox = hasRoot() && existsSync(SYSTEMD) && existsSync(join(CGROUPS, 'cgroup.procs'))
const boxTest = canBox ? test.serial : test.serial.skip

/** A folder of a name that no other run has, gone after the test. */
const folderOf = (t: ExecutionContext): string => {
  const folder = mkdtempSync('/tmp/xlb-service-')
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** The unit with a program that is there. */
const unitFor = (folder: string, name: string): string => {
  const file = join(folder, name)
  writeFileSync(file, readFileSync(join(UNITS, name), 'utf8').replaceAll('/usr/local/bin/xlb', '/usr/bin/true'))
  return file
}

for (const name of readdirSync(UNITS).filter((each) => each.endsWith('.service'))) {
  analyzeTest(`${name}: systemd finds nothing wrong with it`, (t) => {
    const { status, stderr } = runs('systemd-analyze', 'verify', '--man=no', unitFor(folderOf(t), name))
    t.is(stderr, '')
    t.is(status, 0)
  })

  analyzeTest(`${name}: systemd holds it to be hardened`, (t) => {
    const offline = ['security', '--offline=true', '--threshold=30', '--no-pager']
    const { status, stdout } = runs('systemd-analyze', ...offline, unitFor(folderOf(t), name))
    t.log(stdout.trim().split('\n').at(-1))
    t.is(status, 0)
  })
}

/** Node, systemd and the daemon have begun within this, on a machine that is busy. */
const START_MS = 40_000
const WATCHDOG_SECONDS = 3
const CLI = join(root, 'dist/xlb.cjs')
const SERVICE = 'tcp://10.77.0.100:80'
const CONFIG = `
interfaces: [{ name: v0, mode: generic }]
api: { group: ops }
services:
  - { service: ${SERVICE}, seed: "0x1", backends: [{ address: 10.77.0.21, weight: 3 }] }
`

/** The box's interface, again. */
const LINKS = `
ip link add v0 type veth peer name v1
ip address add 10.77.0.1/24 dev v0
ip link set v0 up
ip link set v1 up
ip neighbour add 10.77.0.21 lladdr 02:00:00:00:00:21 dev v0`

/** A silent backend among others: it must not keep them from being served. */
const RESTORED = `
interfaces: [{ name: v0, mode: generic }]
services:
  - { service: ${SERVICE}, seed: "0x1", backends: [{ address: 10.77.0.21, weight: 3 }, { address: 10.77.0.99 }] }
  - { service: "tcp://[fd00:77::100]:80", seed: "0x1", backends: [{ address: "fd00:77::21", weight: 2 }] }
  - { service: "tcp://10.78.0.0/24:80", scheduler: dh, seed: "0x1", backends: [{ address: 10.77.0.21 }] }
filter: { default: allow, deny: [198.51.100.0/24] }
`

/** What a unit of the box has beside what it says itself. */
const BESIDE = {
  // As if the kernel counted the runs of programs: whether it does is of the whole machine.
  'xlb.service': (folder: string) => `
WatchdogSec=${WATCHDOG_SECONDS}
ExecStartPre=${process.execPath} ${folder}/probe.mjs
BindReadOnlyPaths=${folder}/counts:/proc/sys/kernel/bpf_stats_enabled`,
  'xlb-restore.service': () => '',
}
type Unit = keyof typeof BESIDE

const DROP_IN = (folder: string, unit: Unit) => `
[Unit]
DefaultDependencies=no
After=
Wants=
[Service]${BESIDE[unit](folder)}
# Here they may lie in /tmp.
BindReadOnlyPaths=${root} ${folder}
BindPaths=${folder}/told
StandardOutput=append:${folder}/told/out
StandardError=append:${folder}/told/out
`

/** A systemd with one of the units in it. */
const openBox = async (t: ExecutionContext, unit: Unit, config: string) => {
  const folder = folderOf(t)
  for (const each of ['told', 'units', `units/${unit}.d`]) mkdirSync(join(folder, each))
  writeFileSync(join(folder, 'console'), '')
  writeFileSync(join(folder, 'xlb.yaml'), config)
  writeFileSync(join(folder, 'counts'), '1\n')
  // It runs this tree in place of what is installed.
  const text = readFileSync(join(UNITS, unit), 'utf8').replaceAll('/usr/local/bin/xlb', `${process.execPath} ${CLI}`)
  writeFileSync(join(folder, 'units', unit), text)
  writeFileSync(join(folder, `units/${unit}.d/test.conf`), DROP_IN(folder, unit))
  writeFileSync(join(folder, 'units/box.target'), `[Unit]\nDefaultDependencies=no\nRequires=${unit}\n`)
  await build({
    entryPoints: [join(root, 'test/lab/service-probe.ts')],
    outfile: join(folder, 'probe.mjs'),
    bundle: true,
    platform: 'node',
    format: 'esm',
  })
  runs('chmod', '-R', 'a+rX', folder)
  const box = new Tracked([join(root, 'test/lab/service-box.sh'), folder])
  t.teardown(async () => {
    await box.stop('SIGKILL')
    await removeGroups(join(CGROUPS, folder.slice('/tmp/'.length)))
  })
  let pid = ''
  await until('systemd runs', async () => {
    // Before it, the script's own commands are its children.
    pid = read(`/proc/${box.pid}/task/${box.pid}/children`).trim()
    return read(`/proc/${pid}/comm`).trim() === 'systemd'
  })
  const inside = (...argv: string[]): string => {
    const { stdout, stderr } = runs('nsenter', '-t', pid, '-m', '-p', '-n', '-C', ...argv)
    return `${stdout}${stderr}`.trim()
  }
  const systemctl = (...argv: string[]): string => inside('systemctl', '--no-pager', ...argv)
  const show = (property: string): string => systemctl('show', unit, '--value', '-p', property)
  const said = (): string => read(join(folder, 'told/out'))
  const becomes = async (property: string, wanted: string): Promise<void> => {
    const end = Date.now() + START_MS
    while (show(property) !== wanted) {
      if (Date.now() > end) throw new Error(`${property} is not ${wanted}: ${systemctl('status', unit)}\n${said()}`)
      await sleep(100)
    }
  }
  return {
    systemctl,
    show,
    becomes,
    said,
    xlb: (...argv: string[]): string => inside(process.execPath, CLI, ...argv),
    inside,
  }
}

/** Nothing where it is not there any more. */
const read = (file: string): string => {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}

const removeGroups = async (path: string): Promise<void> => {
  for (let i = 0; i < 50 && existsSync(path); i++) {
    try {
      for (const child of readdirSync(path, { withFileTypes: true })) {
        if (child.isDirectory()) await removeGroups(join(path, child.name))
      }
      rmdirSync(path)
    } catch {
      // What was killed is not gone yet.
      await sleep(20)
    }
  }
}

boxTest(
  'xlb.service: the daemon works as its own user, tells systemd, and is restarted when it hangs or nothing succeeds',
  async (t) => {
    t.timeout(4 * START_MS)
    const box = await openBox(t, 'xlb.service', CONFIG)
    const line = (what: string): string => new RegExp(`^${what}: (.*)$`, 'm').exec(box.said())?.[1] ?? ''
    // Tried again each second, it has its group as soon as its user is a member.
    await until('the group is refused', async () => /api\.group: .*'xlb'.* no member of 'ops'/.test(box.said()))
    t.regex(box.said(), /mend|usermod --append --groups ops xlb/)
    box.inside('sed', '-i', 's/^ops:x:978:$/&xlb/', '/etc/group')
    await box.becomes('StatusText', 'balances by /etc/xlb/xlb.yaml')
    t.is(box.show('ActiveState'), 'active')
    const restarts = (): number => Number(box.show('NRestarts'))
    t.is(line('id'), '977 977 977')
    t.is(line('capabilities'), '000000c000003000', 'BPF, PERFMON, NET_ADMIN, NET_RAW')
    for (const what of ['namespaces', 'mounts', 'owners', 'configuration', 'bpffs', 'sysctl']) {
      t.regex(line(what), /^denied/, what)
    }
    t.regex(line('command'), /^Uid:\s+977.*CapPrm:\s+0+ .*CapEff:\s+0+ .*NoNewPrivs:\s+1/)
    t.regex(box.xlb('list'), /tcp:\/\/10\.77\.0\.100:80[\s\S]*10\.77\.0\.21 +3 +up/)
    t.is(box.inside('stat', '-c', '%A %U:%G', '/run/xlb/default/api.sock'), 'srw-rw---- xlb:ops')
    const asOps = ['setpriv', '--reuid=979', '--regid=978', '--clear-groups', '--', process.execPath, CLI]
    t.regex(box.inside(...asOps, 'list'), /10\.77\.0\.21 +3 +up/, 'its members reach it')
    const metrics = box.inside('curl', '-s', '--unix-socket', '/run/xlb/default/api.sock', 'http://xlb/metrics')
    t.regex(metrics, /^xlb_program_runs_total\{interface="v0"\} \d/m)

    const member = ['setpriv', '--reuid=65534', '--regid=65534', '--groups=977,978', '--bounding-set=-all']
    const examined = box.inside(...member, process.execPath, CLI, 'doctor')
    t.regex(examined, /^ERROR vip-unheld: nobody has the VIP 10\.77\.0\.100/m)
    t.notRegex(examined, /replaced xlb's program/, 'its pin tells')
    t.notRegex(box.xlb('doctor', '--here'), /CAP_SYS_ADMIN/)
    t.regex(box.inside(...member, process.execPath, CLI, 'diff'), /^nothing would change$/)

    t.regex(box.xlb('backend', 'maint', SERVICE, '10.77.0.21'), /is in maintenance/)
    // Root's own verbs leave nothing behind that the daemon may not open.
    box.inside('sh', '-c', `timeout -s KILL 4 ${process.execPath} ${CLI} capture --seconds 60`)
    t.regex(box.inside('find', '/sys/fs/bpf/xlb/default', '/run/xlb', '-user', 'root'), /^$/)
    t.regex(box.xlb('backend', 'set', SERVICE, '10.77.0.21', '--weight', '4'), /^set /)
    t.regex(box.xlb('backend', 'set', SERVICE, '10.77.0.21', '--weight', '3'), /^set /)
    t.regex(box.xlb('backend', 'maint', SERVICE, '10.77.0.21'), /is in maintenance/)
    box.inside('sh', '-c', 'sed -i "s/weight: 3/weight: 5/" /etc/xlb/xlb.yaml')
    t.is(box.systemctl('reload', 'xlb.service'), '')
    t.regex(box.xlb('list'), /10\.77\.0\.21 +5 +maint/)
    box.inside('sh', '-c', 'echo "services: 7" > /etc/xlb/xlb.yaml')
    t.regex(box.systemctl('reload', 'xlb.service'), /failed/)
    t.regex(box.said(), /^xlb: \/etc\/xlb\/xlb\.yaml: a fault; nothing was changed$/m)
    t.is(box.show('StatusText'), '/etc/xlb/xlb.yaml is refused, and what was loaded before runs on')
    t.is(box.show('ActiveState'), 'active')
    box.inside('sh', '-c', `cat > /etc/xlb/xlb.yaml <<'END'\n${CONFIG.replace('weight: 3', 'weight: 5')}\nEND`)
    box.systemctl('kill', '--kill-whom=main', '--signal=HUP', 'xlb.service')
    await box.becomes('StatusText', 'balances by /etc/xlb/xlb.yaml')

    let before = restarts()
    box.systemctl('kill', '--kill-whom=main', '--signal=STOP', 'xlb.service')
    await until('it is restarted', async () => restarts() === before + 1)
    await box.becomes('StatusText', 'balances by /etc/xlb/xlb.yaml')
    t.regex(box.xlb('list'), /10\.77\.0\.21 +5 +maint/, 'what was pinned is there')

    // A program where the link should be: no look succeeds.
    before = restarts()
    const pins = (...moves: string[]): string =>
      box.inside('sh', '-ec', ['cd /sys/fs/bpf/xlb/default/links', ...moves.map((each) => `mv ${each}`)].join('; '))
    const index = box.inside('ls', '/sys/fs/bpf/xlb/default/links')
    t.is(pins(`${index} ../kept`, `../programs/${index} ${index}`), '')
    await until('it is restarted', async () => restarts() > before)
    t.is(pins(`${index} ../programs/${index}`, `../kept ${index}`), '')
    await box.becomes('StatusText', 'balances by /etc/xlb/xlb.yaml')
    t.is(box.show('SubState'), 'running')
    box.inside('ip', 'link', 'delete', 'v0')
    before = restarts()
    await sleep(2.5 * WATCHDOG_SECONDS * 1000)
    t.is(restarts(), before, 'one that waits for its interface is well')
    box.inside('sh', '-ec', LINKS)
    await until('it is attached again', async () => /^v0: attached/m.test(box.xlb('list')))

    box.systemctl('stop', 'xlb.service')
    t.is(box.show('ActiveState'), 'inactive')
    t.is(box.show('Result'), 'success')
    t.regex(box.xlb('list'), /10\.77\.0\.21 +5 +maint/, 'and without a daemon too')
    box.xlb('detach', '--all')
    t.regex(box.xlb('attach', 'v0', '--mode', 'generic'), /attached/)
    t.is(box.inside('find', '/sys/fs/bpf/xlb/default', '-user', 'root'), '', 'what root attaches is the service’s too')
  },
)

boxTest(
  'xlb-restore.service: attaches and restores at boot, again when it is reloaded, and ends nothing',
  async (t) => {
    t.timeout(4 * START_MS)
    const box = await openBox(t, 'xlb-restore.service', RESTORED)
    await box.becomes('SubState', 'exited')
    t.is(box.show('Result'), 'success', box.said())
    const listed = box.xlb('list')
    t.regex(listed, /^v0: attached, generic mode$/m)
    t.regex(listed, /tcp:\/\/10\.77\.0\.100:80[\s\S]*10\.77\.0\.21 +3 +up/)
    t.regex(listed, /10\.77\.0\.99 +1 +no-mac/)
    t.regex(listed, /fd00:77::21\S* +2 +up/)
    t.regex(listed, /tcp:\/\/10\.78\.0\.0\/24:80/)
    t.regex(box.xlb('filter', 'list'), /deny 198\.51\.100\.0\/24/)
    box.inside('sed', '-i', 's/weight: 3/weight: 5/', '/etc/xlb/xlb.yaml')
    t.is(box.systemctl('reload', 'xlb-restore.service'), '')
    t.regex(box.xlb('list'), /10\.77\.0\.21 +5 +up/)
    box.inside('sh', '-c', 'echo "services: 7" > /etc/xlb/xlb.yaml')
    t.not(box.systemctl('reload', 'xlb-restore.service'), '', 'a file that is refused is told')
    t.is(box.show('ActiveState'), 'active')
    box.systemctl('stop', 'xlb-restore.service')
    t.is(box.show('ActiveState'), 'inactive')
    t.regex(box.xlb('list'), /10\.77\.0\.21 +5 +up/)
    t.regex(box.xlb('detach', '--all'), /detached/)
  },
)
