// SPDX-License-Identifier: Apache-2.0
// What xlb.service may do: run by test/lab/service.test.ts in the unit's sandbox before the daemon. Prints a line for each thing.
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { runUnprivileged } from '../../src/shell/unprivileged.ts'

const say = (what: string, text: string): void =>
  void process.stdout.write(`${what}: ${text.trim().replaceAll('\n', ' | ')}\n`)

const denied = (command: string, ...argv: string[]): string => {
  const { status, stderr } = spawnSync(command, argv, { encoding: 'utf8' })
  return status === 0 ? 'allowed' : `denied, ${stderr}`
}

say('id', `${process.getuid?.()} ${process.getgid?.()} ${process.getgroups?.()}`)
say('capabilities', /^CapEff:\s*(\w+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '')
say('namespaces', denied('unshare', '--user', 'true'))
say('mounts', denied('mount', '-t', 'tmpfs', 'none', '/var/lib/xlb'))
say('owners', denied('chown', 'root', '/var/lib/xlb'))
say('configuration', denied('touch', '/etc/xlb/xlb.yaml'))
say('bpffs', denied('mkdir', '/sys/fs/bpf/other'))
say('sysctl', denied('sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward'))
const command = ['grep', '-hE', '^(Uid|CapEff|CapPrm|NoNewPrivs)', '/proc/self/status']
const { stdout, fault } = await runUnprivileged({ command, user: 'nobody', timeoutMs: 5000 })
say('command', fault ?? stdout)
