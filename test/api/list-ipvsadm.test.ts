// SPDX-License-Identifier: Apache-2.0
// The list as ipvsadm prints it: the text that scripts read.
import test, { type ExecutionContext } from 'ava'
import { serve } from './asked.ts'
import { backend, fakeSession, service } from './plane.ts'

const listed = async (t: ExecutionContext, options: object = {}): Promise<string[]> => {
  const fake = fakeSession({ netlink: { neighbours: () => [], interfaces: () => [] } as never })
  fake.set(
    service(10, 'wrr', [
      backend(1, { weight: 3 }),
      backend(2, { path: { kind: 'local' } }),
      backend(4, { weight: 9, admin: 'drain' }),
    ]),
    {
      ...service(12, 'rr', []),
      persistence: { seconds: 300, prefix: 20, prefix6: 64, drain: 'keep', group: undefined },
    },
    {
      ...service(11, 'rr', [backend(3)]),
      protocol: 'udp',
      port: 0,
      lastPort: 65535,
      ops: true,
      vip: '2001:db8::11',
      backends: [{ ...backend(3), address: '2001:db8::3', port: 0 }],
    },
  )
  fake.count('tcp://192.0.2.10:80', '198.51.100.1', 1_234, 5_678_901_234, 12)
  const clock = () => ({ age: BigInt(fake.plane.memory.age()), jiffies: 0n })
  const { post } = await serve(t, {
    live: () => ({ ...fake.session(), plane: Object.assign(fake.plane.memory, { clock }) as never }),
  })
  const response = await post('list', { format: 'ipvsadm', ...options })
  t.is(response.statusCode, 200, response.body)
  return response.json<{ text: string }>().text.split('\n')
}

test('services and backends', async (t) => {
  const [first, ...lines] = await listed(t)
  t.regex(first ?? '', /^IP Virtual Server version xlb \d+\.\d+\.\d+ \(size=\d+\)$/)
  t.deepEqual(lines, [
    'Prot LocalAddress:Port Scheduler Flags',
    '  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn',
    'TCP  192.0.2.10:80 wrr',
    '  -> 198.51.100.1:80              Route   3      0          0',
    '  -> 198.51.100.2:80              Local   1      0          0',
    '  -> 198.51.100.4:80              Route   0      0          0',
    'TCP  192.0.2.12:80 rr persistent 300 mask 255.255.240.0',
    'UDP  [2001:db8::11]:0 rr ops',
    '  -> [2001:db8::3]:0              Route   1      0          0',
  ])
})

test('counts: of a service those of its backends, and what has more than eight digits in thousands', async (t) => {
  const lines = (await listed(t, { stats: true })).slice(1, 5)
  t.deepEqual(lines, [
    'Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes',
    '  -> RemoteAddress:Port',
    'TCP  192.0.2.10:80                      12     1234        0 5678901K        0',
    '  -> 198.51.100.1:80                    12     1234        0 5678901K        0',
  ])
})
