// SPDX-License-Identifier: Apache-2.0
// Where captured packets go: a pcapng file, or lines on standard output.
import { accessSync, closeSync, constants, existsSync, openSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { type Captured, commentOf, lineOf, objectOf } from '../core/captured.ts'
import { enhancedPacket, interfaceDescription, interfaceStatistics, sectionHeader } from '../core/pcapng.ts'
import { Refusal } from '../core/refusal.ts'
import type { InterfaceSums } from '../shell/capture.ts'

/** False: the reader has gone, and nothing more is wanted. */
type Written = boolean

export interface CaptureSink {
  take(packets: readonly Captured[]): Written
  /** What belongs at the end; then it is closed. */
  end(sums: readonly InterfaceSums[], startNs: bigint, endNs: bigint): void
}

const STDOUT = 1

const hasCode = (error: unknown, code: string): boolean =>
  error instanceof Error && 'code' in error && error.code === code

const pause = (milliseconds: number): void => {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds)
}

/** Writes all of it, also to a pipe that another process has made non-blocking. @returns false where nobody reads any more */
const writeAll = (descriptor: number, octets: Uint8Array): Written => {
  for (let at = 0; at < octets.length; ) {
    try {
      at += writeSync(descriptor, octets, at)
    } catch (error) {
      if (hasCode(error, 'EPIPE')) return false
      if (!hasCode(error, 'EAGAIN')) throw error
      pause(5)
    }
  }
  return true
}

/** A person at a terminal, or a program that reads lines. */
const lines = (textOf: (packet: Captured) => string): CaptureSink => ({
  take: (packets) => writeAll(STDOUT, Buffer.from(packets.map((packet) => `${textOf(packet)}\n`).join(''))),
  end: () => {},
})

class PcapngSink implements CaptureSink {
  readonly #descriptor: number
  readonly #numbers: ReadonlyMap<string, number>
  readonly #delivered: number[]

  constructor(descriptor: number, interfaces: readonly string[], snapLength: number, application: string) {
    this.#descriptor = descriptor
    this.#numbers = new Map(interfaces.map((name, number) => [name, number]))
    this.#delivered = interfaces.map(() => 0)
    writeAll(
      descriptor,
      Buffer.concat([sectionHeader(application), ...interfaces.map((name) => interfaceDescription(name, snapLength))]),
    )
  }

  take(packets: readonly Captured[]): Written {
    const blocks = packets.map((packet) => {
      const number = this.#numbers.get(packet.interface) ?? 0
      this.#delivered[number] = (this.#delivered[number] ?? 0) + 1
      const { timeNs, frame: data, frameLength } = packet
      return enhancedPacket({ interface: number, timeNs, data, frameLength, comment: commentOf(packet) })
    })
    return writeAll(this.#descriptor, Buffer.concat(blocks))
  }

  end(sums: readonly InterfaceSums[], startNs: bigint, endNs: bigint): void {
    const blocks = sums.map(({ name, packets, lost }) => {
      const number = this.#numbers.get(name) ?? 0
      const delivered = BigInt(this.#delivered[number] ?? 0)
      return interfaceStatistics({ interface: number, startNs, endNs, received: packets, lost, delivered })
    })
    writeAll(this.#descriptor, Buffer.concat(blocks))
    if (this.#descriptor !== STDOUT) closeSync(this.#descriptor)
  }
}

export interface SinkOptions {
  /** A file, `-` for standard output; undefined: lines. */
  write: string | undefined
  json: boolean
  interfaces: readonly string[]
  snapLength: number
  application: string
}

const cannotWrite = (file: string, error: unknown): Refusal =>
  new Refusal(
    `${file} cannot be written: ${error instanceof Error ? error.message : error}`,
    'name a file in a folder that is there and may be written, or - for standard output',
  )

/** Before anything begins; the file stays as it is. @throws Refusal for a file that cannot be written */
export const demandWritable = (write: string | undefined): void => {
  if (write === undefined || write === '-') return
  try {
    accessSync(existsSync(write) ? write : dirname(write), constants.W_OK)
  } catch (error) {
    throw cannotWrite(write, error)
  }
}

/** @throws Refusal for a file that cannot be written */
export const openSink = ({ write, json, interfaces, snapLength, application }: SinkOptions): CaptureSink => {
  if (write === undefined) return lines(json ? (packet) => JSON.stringify(objectOf(packet)) : lineOf)
  if (write === '-') return new PcapngSink(STDOUT, interfaces, snapLength, application)
  try {
    // Frames hold what people send: as secret as the seeds that `save` writes.
    return new PcapngSink(openSync(write, 'w', 0o600), interfaces, snapLength, application)
  } catch (error) {
    throw cannotWrite(write, error)
  }
}
