// SPDX-License-Identifier: Apache-2.0
// A TCP client for the lab: node line-client.js ADDRESS PORT COUNT INTERVAL_MS. It opens COUNT connections to a line-server,
// says `open COUNT` when each has had an answer, and sends a line on each every INTERVAL_MS (0: it stays silent). On
// SIGTERM it sends a last line on each, waits for the answers, and prints what came of them as one line of JSON:
//   { opened, intact, lost: [{ localPort, server, why }], servers: { NAME: connections }, lines }
// A connection is intact where every line was answered, in order, by one server, and nothing ended it.
import { connect } from 'node:net'

const [address = '', port = '', count = '', interval = ''] = process.argv.slice(2)
const ANSWER_MS = 15_000

let lines = 0
let stopping = false

class Line {
  server = ''
  why = ''
  localPort = 0
  #socket
  #sent = 0
  #answered = 0
  #rest = ''
  #wake = () => {}
  #ended

  constructor() {
    this.#ended = new Promise((resolve) => {
      this.#wake = resolve
    })
  }

  open() {
    return new Promise((resolve) => {
      this.#socket = connect({ host: address, port: Number(port), noDelay: true }, () => {
        this.localPort = this.#socket.localPort
        this.say()
      })
      this.#socket.setEncoding('utf8')
      this.#socket.on('error', (error) => this.#lose(error.code ?? error.message))
      this.#socket.on('close', () => {
        this.#lose('closed')
        resolve()
      })
      this.#socket.on('data', (text) => {
        const answers = (this.#rest + text).split('\n')
        this.#rest = answers.pop() ?? ''
        for (const answer of answers) this.#take(answer)
        resolve()
      })
    })
  }

  /** Sends the next line, unless the one before has not been answered yet. */
  say() {
    if (this.why !== '' || this.#sent !== this.#answered) return
    this.#sent += 1
    this.#socket.write(`${this.#sent}\n`)
  }

  /** Sends a last line, waits for its answer, and closes. */
  async finish() {
    const last = () => {
      if (this.#sent === this.#answered) {
        this.say()
        this.lastSaid = true
      }
    }
    this.onAnswer = () => (this.lastSaid ? this.#wake() : last())
    last()
    const timer = setTimeout(() => this.#lose('no answer'), ANSWER_MS)
    if (this.why === '') await this.#ended
    clearTimeout(timer)
    this.finished = true
    this.#socket.destroy()
  }

  #take(answer) {
    const [server = '', number = ''] = answer.split(' ')
    this.#answered += 1
    lines += 1
    if (Number(number) !== this.#answered) this.#lose(`answer ${number} to line ${this.#answered}`)
    if (this.server !== '' && this.server !== server) this.#lose(`${this.server} became ${server}`)
    this.server = server
    this.onAnswer?.()
  }

  #lose(why) {
    if (this.finished || this.why !== '') return
    this.why = why
    this.#wake()
  }
}

const all = Array.from({ length: Number(count) }, () => new Line())
await Promise.all(all.map((line) => line.open()))
console.log(`open ${all.length}`)

if (Number(interval) > 0) {
  for (const line of all) {
    // Each in a phase of its own: the lines spread over time.
    setTimeout(() => {
      const timer = setInterval(() => (stopping ? clearInterval(timer) : line.say()), Number(interval))
    }, Math.random() * Number(interval))
  }
}

process.on('SIGTERM', async () => {
  stopping = true
  await Promise.all(all.map((line) => line.finish()))
  const lost = all.filter(({ why }) => why !== '').map(({ localPort, server, why }) => ({ localPort, server, why }))
  const servers = {}
  for (const { server } of all) servers[server] = (servers[server] ?? 0) + 1
  console.log(JSON.stringify({ opened: all.length, intact: all.length - lost.length, lost, servers, lines }))
  process.exit(0)
})
// With no interval nothing else keeps the process alive but its sockets; a lost one must not end it before it is asked.
setInterval(() => {}, 60_000)
