// SPDX-License-Identifier: Apache-2.0
import { fileURLToPath } from 'node:url'
import type { Lab } from './lab.ts'
import { on } from './xlb.ts'

const PASS = fileURLToPath(new URL('../../build/bpf/pass.bpf.o', import.meta.url))

/** An interface of the director again, as lab-net makes it: with the VIP, or without. */
export const remakeEth0 = async (lab: Lab, withVip = true): Promise<void> => {
  const { address, mac } = lab.host('director')
  await on(
    lab,
    'director',
    `ip link add name eth0 address ${mac} type veth peer name to-director netns ${lab.prefix}-switch`,
  )
  await on(lab, 'switch', 'ip link set dev to-director master br0 up')
  await on(lab, 'director', `ip link set dev eth0 up; ip address add ${address}/24 dev eth0`)
  if (withVip) await on(lab, 'director', `ip address add ${lab.vip}/32 dev eth0`)
  await on(lab, 'switch', `ip link set dev to-director xdpdrv obj ${PASS} sec xdp`)
}
