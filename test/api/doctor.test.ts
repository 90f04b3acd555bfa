// SPDX-License-Identifier: Apache-2.0
// The doctor as a request: what comes to the examination, that there is one at a time, and that nobody's going away keeps it busy.
import { mkdtempSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import test, { type ExecutionContext } from 'ava'
import { type DoctorPorts, doctorVerb } from '../../src/api/doctor.ts'
import { answerDoctor } from '../../src/commands/doctor.ts'
import { Refusal } from '../../src/core/refusal.ts'
import { failure, JSON_TYPE, own, SERVICE, serve, TOKEN } from './asked.ts'

interface Examination {
  service: string | undefined
  options: unknown
  /** Whoever asked has gone. */
  gone: () => boolean
  end: (outcome?: Error) => void
}

/** A doctor whose examinations end when the test says so. */
const doctor = async (t: ExecutionContext, ports: Partial<DoctorPorts> = {}) => {
  const begun: Examination[] = []
  const verb = doctorVerb({
    answer: (context, service, options) =>
      new Promise((resolve, reject) => {
        const end = (outcome?: Error): void => {
          context.answer({ findings: [{ severity: 'error' }] }, `${begun.length}`)
          outcome === undefined ? resolve(true) : reject(outcome)
        }
        begun.push({ service, options, gone: () => context.gone?.aborted === true, end })
      }),
    ...ports,
  })
  const asked = await serve(t, { own: { ...own, doctor: verb } })
  const until = async (count: number): Promise<Examination> => {
    for (let i = 0; begun.length < count && i < 200; i++) await sleep(5)
    const last = begun[count - 1]
    if (last === undefined) throw new Error(`${count} examinations have not begun`)
    return last
  }
  return { ...asked, begun, until }
}

test('the words come to the examination', async (t) => {
  const { post, until } = await doctor(t)
  for (const [n, [body, service, options]] of (
    [
      [{}, undefined, {}],
      [{ service: SERVICE }, SERVICE, {}],
      [{ listen: '1m' }, undefined, { listen: 60 }],
      [{ listen: 10 }, undefined, { listen: 10 }],
    ] as const
  ).entries()) {
    const answered = post('doctor', body)
    const examination = await until(n + 1)
    t.deepEqual([examination.service, examination.options], [service, options])
    examination.end()
    t.is((await answered).json().result.findings.length, 1)
  }
})

test('one at a time, in the order of asking; a setup waits for none, and one that is broken keeps none waiting', async (t) => {
  const { post, begun, until, faults } = await doctor(t)
  const answers = ['a', 'b', 'c'].map((service) => post('doctor', { service }))
  const first = await until(1)
  await sleep(30)
  t.is(begun.length, 1)
  const setup = post('doctor', { setup: true })
  ;(await until(2)).end()
  t.is((await setup).statusCode, 200)
  first.end(new TypeError('broken'))
  t.is((await answers[0])?.statusCode, 500)
  t.is(faults.length, 1)
  const second = await until(3)
  t.is(second.service, 'b')
  const late = post('doctor', { service: 'd' })
  second.end(new Refusal('no', 'yes'))
  t.is((await answers[1])?.statusCode, 409)
  const third = await until(4)
  t.is(third.service, 'c')
  third.end()
  const fourth = await until(5)
  t.is(fourth.service, 'd')
  fourth.end()
  t.is((await late).statusCode, 200)
})

test('who would wait too long is told so, and takes nobody’s turn later', async (t) => {
  let nowMs = 5000
  const { post, begun, until } = await doctor(t, { waitMs: 20, nowMs: () => nowMs })
  const answered = post('doctor', { listen: '1h' })
  const first = await until(1)
  nowMs += 7000
  const { what, mend } = failure(t, await post('doctor', {}), 409)
  t.regex(what, /for 7 s.*one at a time/)
  t.regex(mend, /xlb doctor --here/)
  first.end()
  await answered
  const next = post('doctor', { service: SERVICE })
  ;(await until(2)).end()
  t.is((await next).statusCode, 200)
  t.is(begun.length, 2)
})

test('who goes away ends its examination, or waits for its turn no more', async (t) => {
  const { server, post, begun, until } = await doctor(t)
  const folder = mkdtempSync(join(tmpdir(), 'xlb-doctor-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const socketPath = join(folder, 'api.sock')
  await server.listen({ path: socketPath })
  const asking = (service: string) => {
    const asked = request({ socketPath, path: '/v1/doctor', method: 'POST', headers: JSON_TYPE })
    asked.on('error', () => {})
    asked.end(JSON.stringify({ service }))
    return asked
  }
  const first = asking('first')
  const examination = await until(1)
  const second = asking('second')
  await sleep(50)
  const third = post('doctor', { service: 'third' })
  second.destroy()
  await sleep(50)
  t.false(examination.gone(), 'it was another who went')
  first.destroy()
  for (let i = 0; !examination.gone() && i < 200; i++) await sleep(5)
  t.true(examination.gone())
  examination.end(new Refusal('gone', 'gone'))
  const next = await until(2)
  t.is(next.service, 'third')
  next.end()
  t.is((await third).statusCode, 200)
  t.is(begun.length, 2)
})

test('words that are wrong are refused before anything is sent; and what it finds is no failure of the daemon', async (t) => {
  const asked = await doctor(t, { answer: answerDoctor })
  const cases: [body: object, what: RegExp][] = [
    [{ listen: 0 }, /--listen 0s: is not from 1 s to 1 h/],
    [{ listen: -1 }, /--listen -1s/],
    [{ listen: 3601 }, /--listen 3601s/],
    [{ listen: 'long' }, /long/],
    [{ listen: '10s', setup: true }, /exclude each other/],
    [{ service: 'tcp://nonsense:80' }, /nonsense/],
  ]
  for (const [body, what] of cases) t.regex(failure(t, await asked.post('doctor', body), 400).what, what)
  const claims = { payload: '{}', headers: { ...JSON_TYPE, 'content-length': `${64 * 1024 + 1}` } }
  failure(t, await asked.ask('POST', '/v1/doctor', claims), 413)
  t.deepEqual(asked.faults, [])
  // Of an instance that is attached nowhere.
  t.is((await asked.post('doctor', {})).statusCode, process.getuid?.() === 0 ? 200 : 409)
  t.is(process.exitCode, undefined, 'what is wrong is the answer, not how this process ends')
})

test('over TCP it takes the token, and says why', async (t) => {
  for (const token of [undefined, TOKEN]) {
    const { ask } = await serve(t, { access: { kind: 'tcp', token } })
    const { what } = failure(t, await ask('POST', '/v1/doctor'), token === undefined ? 403 : 401)
    t.regex(what, /sends probes/)
  }
})
