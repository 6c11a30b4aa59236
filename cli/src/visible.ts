// Text that another device, a server or a file has written, as a terminal may be given it: what a terminal would obey, or
// what would turn the reading direction, is shown as an escape instead (CLI-8). The one place that decides what that is.

import { decodeUtf8 } from '@valise/protocol'

/** Control and format characters and separators of lines. */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu
/** The same, but for line ends and tabs, and for the joiners inside emoji and words, which move nothing. */
const UNSAFE_IN_LINES = /(?![\n\t\u200c\u200d])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu
/** What JSON does not escape by itself. */
const UNSAFE_IN_JSON = /[\u007f-\u009f\p{Cf}\p{Zl}\p{Zp}]/gu

const toEscape = (character: string): string => {
  const point = character.codePointAt(0) ?? 0
  return point < 0x100 ? escapeByte(point) : `\\u{${point.toString(16)}}`
}
const escapeByte = (byte: number): string => `\\x${byte.toString(16).padStart(2, '0')}`
const escapeUnit = (unit: string): string => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`

/** On one line: a name, an address, a reason. */
export const printable = (text: string): string => text.replace(UNSAFE, toEscape)

/** Several lines. */
export const visibleLines = (text: string): string => text.replace(UNSAFE_IN_LINES, toEscape)

/** One line of JSON, of the same value. */
export const visibleJson = (value: unknown): string =>
  JSON.stringify(value).replace(UNSAFE_IN_JSON, (character) => character.split('').map(escapeUnit).join(''))

/** Bytes that may be text; those that are no UTF-8 are shown one by one. */
export function visibleBytes(bytes: Uint8Array): string {
  const whole = decodeUtf8(bytes)
  if (whole !== undefined) return visibleLines(whole)
  let text = ''
  for (let at = 0; at < bytes.length; ) {
    const byte = bytes[at] ?? 0
    const length = sequenceLength(byte)
    const character = decodeUtf8(bytes.subarray(at, at + length))
    text += character === undefined ? escapeByte(byte) : visibleLines(character)
    at += character === undefined ? 1 : length
  }
  return text
}

/** Bytes of the UTF-8 sequence that a byte begins. */
const sequenceLength = (lead: number): number => (lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4)
