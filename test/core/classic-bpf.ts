// SPDX-License-Identifier: Apache-2.0
// Classic BPF as the kernel runs it on a frame (net/core/filter.c), as far as filters of frames need it.

/** @returns how many octets the filter takes; a load beyond the end takes none */
export const runFilter = (program: Uint8Array, frame: Uint8Array): number => {
  const view = new DataView(program.buffer, program.byteOffset, program.length)
  const data = new DataView(frame.buffer, frame.byteOffset, frame.length)
  let [a, x] = [0, 0]
  for (let at = 0; at < program.length; at += 8) {
    const k = view.getUint32(at + 4, true)
    const jump = (yes: boolean) => 8 * view.getUint8(at + (yes ? 2 : 3))
    try {
      switch (view.getUint16(at, true)) {
        case 0x30:
          a = data.getUint8(k)
          break
        case 0x28:
          a = data.getUint16(k)
          break
        case 0x50:
          a = data.getUint8(x + k)
          break
        case 0x48:
          a = data.getUint16(x + k)
          break
        case 0xb1:
          x = 4 * (data.getUint8(k) & 0xf)
          break
        case 0x15:
          at += jump(a === k)
          break
        case 0x35:
          at += jump(a >= k)
          break
        case 0x06:
          return k
        default:
          throw new Error(`instruction ${at / 8}: code ${view.getUint16(at, true)} is not known`)
      }
    } catch (error) {
      if (error instanceof RangeError) return 0
      throw error
    }
  }
  throw new Error('the program ends without an answer')
}
