// The name of a stream as it is typed: checked before anything is opened or read.

import { InvalidArgumentError } from 'commander'

const MAX_BYTES = 256

export function parseStreamName(text: string): string {
  const { length } = Buffer.from(text)
  if (length === 0 || length > MAX_BYTES) throw new InvalidArgumentError(`Expected a name of 1 to ${MAX_BYTES} bytes.`)
  if (text.startsWith('valise/')) {
    throw new InvalidArgumentError('Expected another name: those beginning with "valise/" belong to the program.')
  }
  return text
}
