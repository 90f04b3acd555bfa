// SPDX-License-Identifier: Apache-2.0
// lblcr: the set of backends that a destination has, how it grows and how it becomes smaller.
import test from 'ava'
import { age, notes, remembered } from './destinations.ts'
import { DAY, establish, host, inactive, open, SERVICE, times, weights } from './locality.ts'
import { type Balancer, breathe } from './plane.ts'

test.beforeEach(breathe)

test.serial('lblcr: where its backend is overloaded, a destination gets another one beside it', (t) => {
  const balancer = open(t, 'lblcr', weights(1, 1, 1))
  t.deepEqual(
    times(2, () => establish(balancer)),
    [1, 1],
  )
  t.is(establish(balancer), 2)
  t.deepEqual(remembered(balancer, SERVICE), { [host(1)]: [2, 1] })
  // The least loaded of the set: 2 has one, 1 has two.
  t.is(establish(balancer), 2)
  // 2 and 2: the one that was added last. It has more than its weight, and 3 has none.
  t.is(establish(balancer), 3)
  t.deepEqual(remembered(balancer, SERVICE), { [host(1)]: [3, 2, 1] })
  t.is(establish(balancer), 3)
  // All have two, and nobody less than half its weight.
  t.deepEqual(
    times(6, () => establish(balancer)),
    [3, 2, 1, 3, 2, 1],
  )
})

test.serial('lblcr: the least loaded of the set is by weights', (t) => {
  const balancer = open(t, 'lblcr', weights(1, 3))
  balancer.setBackend(SERVICE, 2, { weight: 0 })
  times(2, () => t.is(establish(balancer), 1))
  balancer.setBackend(SERVICE, 2, { weight: 3 })
  t.is(establish(balancer), 2)
  // 2 for weight 1, and 1 for weight 3. At 6 for weight 3 they have as much to do.
  t.deepEqual(
    times(8, () => establish(balancer)),
    [2, 2, 2, 2, 2, 2, 1, 2],
  )
})

test.serial('lblcr: one that takes no flow stays in the set, and has its share when it does again', (t) => {
  const balancer = open(t, 'lblcr', weights(50, 50))
  t.is(establish(balancer), 1)
  balancer.drain(SERVICE, 1)
  t.is(establish(balancer), 2)
  t.is(establish(balancer), 2)
  t.deepEqual(remembered(balancer, SERVICE), { [host(1)]: [2, 1] })
  balancer.setBackend(SERVICE, 1, { weight: 50 })
  t.is(establish(balancer), 1)
})

/** A set of backends 1 to n, each with one active connection of it. */
const fill = (balancer: Balancer, count: number): void => {
  for (let backend = 1; backend <= count; backend++) balancer.setBackend(SERVICE, backend, { weight: 0 })
  for (let backend = 1; backend <= count; backend++) {
    balancer.setBackend(SERVICE, backend, { weight: 50 })
    establish(balancer)
    balancer.setBackend(SERVICE, backend, { weight: 0 })
  }
  for (let backend = 1; backend <= count; backend++) balancer.setBackend(SERVICE, backend, { weight: 50 })
}

test.serial('lblcr: a set that was not changed for a day loses its most loaded backend, with the next flow', (t) => {
  const balancer = open(t, 'lblcr', weights(50, 50, 50))
  fill(balancer, 3)
  t.deepEqual(remembered(balancer, SERVICE), { [host(1)]: [3, 2, 1] })
  for (const to of [5, 5, 5]) establish(balancer, to) // to the first of those with least to do
  t.deepEqual(remembered(balancer, SERVICE)[host(5)], [1])
  age(balancer, { unchanged: DAY })
  t.is(establish(balancer), 3)
  t.deepEqual(remembered(balancer, SERVICE)[host(1)], [3, 2, 1], 'a day is not more than a day')
  age(balancer, { unchanged: DAY + 1 })
  t.is(establish(balancer), 2)
  t.deepEqual(remembered(balancer, SERVICE)[host(1)], [3, 2], '1 has most to do')
  t.is(notes(balancer).get(host(1))?.unchanged, 0)
  t.is(establish(balancer), 3)
  t.deepEqual(remembered(balancer, SERVICE)[host(1)], [3, 2], 'one at a time')
  age(balancer, { unchanged: DAY + 1 })
  establish(balancer)
  t.is(remembered(balancer, SERVICE)[host(1)]?.length, 1)
  age(balancer, { unchanged: DAY + 1 })
  establish(balancer)
  t.is(remembered(balancer, SERVICE)[host(1)]?.length, 1, 'one stays')
})

test.serial('lblcr: the flow that makes a set smaller goes to the least loaded of it, as it was before', (t) => {
  const balancer = open(t, 'lblcr', weights(50, 50))
  fill(balancer, 2)
  age(balancer, { unchanged: DAY + 1 })
  // Both have one: the one that was added last has least, and as the first of two with as much it has most.
  t.is(establish(balancer), 2)
  t.deepEqual(remembered(balancer, SERVICE), { [host(1)]: [1] })
  t.is(establish(balancer), 1)
})

test.serial('lblcr: one that takes no flow is dropped before the most loaded', (t) => {
  const balancer = open(t, 'lblcr', weights(50, 50, 50))
  fill(balancer, 3)
  times(9, () => establish(balancer))
  balancer.drain(SERVICE, 2)
  age(balancer, { unchanged: DAY + 1 })
  establish(balancer)
  t.deepEqual(remembered(balancer, SERVICE), { [host(1)]: [3, 1] })
})

test.serial('lblcr: a set that was changed is whole for a day again', (t) => {
  const balancer = open(t, 'lblcr', weights(50, 50, 50))
  fill(balancer, 2)
  age(balancer, { unchanged: DAY })
  balancer.drain(SERVICE, 1)
  balancer.drain(SERVICE, 2)
  t.is(establish(balancer), 3)
  t.is(notes(balancer).get(host(1))?.unchanged, 0)
  t.deepEqual(remembered(balancer, SERVICE), { [host(1)]: [3, 2, 1] })
})

test.serial('lblcr: the least loaded of all may be in the set already, and then nothing changes', (t) => {
  // One that counts as idle, with hundreds of inactive connections: more than any by wlc.
  const balancer = open(t, 'lblcr', weights(2, 1))
  times(3, () => t.is(establish(balancer, 1), 1))
  balancer.setBackend(SERVICE, 1, { weight: 0 })
  times(600, () => t.is(inactive(balancer, 2), 2))
  balancer.setBackend(SERVICE, 1, { weight: 2 })
  age(balancer, { unchanged: 77 })
  t.is(establish(balancer, 1), 1)
  t.is(notes(balancer).get(host(1))?.unchanged, 77)
  t.deepEqual(remembered(balancer, SERVICE)[host(1)], [1])
})

for (const count of [5, 8, 9, 12]) {
  test.serial(`lblcr: of ${count} backends that a destination came to need, a set has the last eight at most`, (t) => {
    const balancer = open(t, 'lblcr', count)
    fill(balancer, count)
    t.deepEqual(
      remembered(balancer, SERVICE)[host(1)],
      times(Math.min(8, count), (i) => count - i),
    )
  })
}

test.serial('lblcr: a ninth backend takes the place of the most loaded', (t) => {
  const balancer = open(t, 'lblcr', 9)
  balancer.setBackend(SERVICE, 9, { weight: 0 })
  fill(balancer, 8)
  for (const backend of [1, 2, 3, 4, 5, 6, 7, 8]) balancer.setBackend(SERVICE, backend, { weight: 1 })
  // Two each: more than their weight. And one more for the fifth, by another destination.
  times(8, () => establish(balancer))
  for (const backend of [1, 2, 3, 4, 6, 7, 8]) balancer.setBackend(SERVICE, backend, { weight: 0 })
  t.is(establish(balancer, 2), 5)
  for (const backend of [1, 2, 3, 4, 6, 7, 8]) balancer.setBackend(SERVICE, backend, { weight: 1 })
  balancer.setBackend(SERVICE, 9, { weight: 1 })
  t.is(establish(balancer), 9)
  t.deepEqual(remembered(balancer, SERVICE)[host(1)], [9, 8, 7, 6, 4, 3, 2, 1])
})

test.serial('lblcr: of a set, a removed backend alone is forgotten', (t) => {
  const balancer = open(t, 'lblcr', 3)
  fill(balancer, 3)
  balancer.removeBackend(SERVICE, 2, 'move')
  balancer.setBackend(SERVICE, 7, { weight: 0 })
  t.is(balancer.indexOf(SERVICE, 7), 1)
  t.deepEqual(remembered(balancer, SERVICE), { [host(1)]: [3, undefined, 1] })
  balancer.setBackend(SERVICE, 7, { weight: 50 })
  t.deepEqual(
    times(4, () => establish(balancer)),
    [3, 1, 3, 1],
  )
})
