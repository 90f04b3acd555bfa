// SPDX-License-Identifier: Apache-2.0
// A download from the VIP that stands half way until it is released: a connection that is under way while something changes.
import { type Family, inUrl, Lab, type Registrar } from './lab.ts'
import type { Tracked } from './process.ts'
import { attach, backends, type Mode, restore } from './xlb.ts'

export const BYTES = 400_000

export interface Download {
  lab: Lab
  service: string
  bytes: number
  /** curl, which has the first half of the bytes from `server` and waits for the second. */
  curl: Tracked
  server: string
  address: string
  /** The HTTP servers of rs1, rs2, rs3. */
  servers: Tracked[]
  /** Lets the download end. */
  release: () => Promise<string>
}

/** A lab in which a download from the VIP stands half way. */
export const begin = async (
  t: Registrar,
  mode: Mode,
  scheduler: string,
  bytes = BYTES,
  family: Family = 'IPv4',
): Promise<Download> => {
  const lab = await Lab.up(t, { family })
  const service = `tcp://${lab.vipInUrl}:80`
  const servers = await Promise.all([lab.http(1, 80), lab.http(2, 80), lab.http(3, 80)])
  await attach(lab, mode)
  await restore(lab, [{ service, scheduler, backends: backends(lab, 1, 1, 1) }])
  const curl = lab.spawn('client', ['curl', '-sSN', '--max-time', '40', `http://${lab.vipInUrl}/held?bytes=${bytes}`])
  await curl.waitFor(/rs\d/)
  const server = /rs\d/.exec(curl.stdout)?.[0] ?? ''
  const { address } = lab.host(server)
  const release = async () => (await lab.curl(`http://${inUrl(address)}/release`)).stdout
  return { lab, service, bytes, curl, server, address, servers, release }
}

export const endsWhole = async (t: { is: (a: unknown, b: unknown) => unknown }, download: Download): Promise<void> => {
  t.is(await download.release(), '1\n')
  const { code, stdout, stderr } = await download.curl.ended
  t.is(stderr, '')
  t.is(code, 0)
  const { bytes, server } = download
  t.is(
    stdout,
    server
      .repeat(Math.ceil(bytes / 6))
      .slice(0, bytes / 2)
      .repeat(2),
  )
}
