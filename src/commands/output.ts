// SPDX-License-Identifier: Apache-2.0
// Output that may be long: handed over piece by piece, as fast as it is read.

const PIECE_CHARACTERS = 1 << 16

const write = (text: string): Promise<void> =>
  new Promise((resolve, reject) => {
    process.stdout.write(text, (error) => (error ? reject(error) : resolve()))
  })

const isClosed = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'EPIPE'

/**
 * Prints texts one after the other; the next ones are made when those before are taken. Where the reader has gone, as `head` does,
 * the rest is wanted no more, and that is no error.
 */
export const printAll = async (texts: Iterable<string>): Promise<void> => {
  // A failed write is told to the callback, and beside it as an event, which would end the process.
  process.stdout.on('error', () => {})
  let piece = ''
  try {
    for (const text of texts) {
      piece += text
      if (piece.length < PIECE_CHARACTERS) continue
      await write(piece)
      piece = ''
    }
    if (piece !== '') await write(piece)
  } catch (error) {
    if (!isClosed(error)) throw error
  }
}
