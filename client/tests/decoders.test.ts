// MSG-2 for what other devices, people and files hand to a client: whatever it is, it is read or it is not, and nothing
// throws but what says so.

import { type DeviceRecord, KEM_X25519, toDeviceId, toUserId } from '@valise/protocol'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ExportFileError, parseExportLine } from '../src/export/export-lines.ts'
import {
  encodeDone,
  encodeIntroduction,
  encodeInvitation,
  parseDone,
  parseIntroduction,
  parseInvitation,
} from '../src/link/messages.ts'
import { formatLinkRequest, parseLinkRequest } from '../src/link/request.ts'
import {
  encodeAnswer,
  encodeOpening,
  encodePairingIntroduction,
  encodePairingInvitation,
  parseAnswer,
  parseOpening,
  parsePairingIntroduction,
  parsePairingInvitation,
} from '../src/pairing/messages.ts'
import { formatQrOffer, parseOffer } from '../src/pairing/offer.ts'
import { encodePairingRecord, parsePairingRecord } from '../src/pairing/record.ts'
import { pad, unpad } from '../src/sealing/padding.ts'
import { encodeSeenView, parseSeenView } from '../src/seen-view.ts'

const filled = (length: number, value = 7): Uint8Array => new Uint8Array(length).fill(value)
const userId = toUserId(filled(32))!
const inviter = toDeviceId(filled(16))!
const record: DeviceRecord = { role: 'member', edPub: filled(32), kemId: KEM_X25519, kemPub: filled(32) }
const seen = { logSeq: 1, logHead: filled(32), chains: [{ deviceId: inviter, deviceSeq: 3, chain: filled(32) }] }
const introduction = { record, name: 'phone', platform: 'linux' }
const invitation = {
  userId,
  serverFingerprint: filled(32),
  nextFingerprint: filled(32),
  logSeq: 1,
  logHead: filled(32),
}
const share = { share: filled(32), associatedData: Uint8Array.of(1) }
const offer = { mailboxId: filled(16), secret: filled(32), shortFingerprint: filled(16) }

const BYTE_DECODERS: readonly [name: string, parse: (bytes: Uint8Array) => unknown, valid: Uint8Array][] = [
  ['a link introduction', parseIntroduction, encodeIntroduction(introduction)],
  ['a link invitation', parseInvitation, encodeInvitation(invitation)],
  ['the end of a link', parseDone, encodeDone({ seq: 1, entryHash: filled(32) })],
  ['a pairing opening', parseOpening, encodeOpening({ form: 'qr', ...share })],
  ['a pairing answer', parseAnswer, encodeAnswer({ ...share, confirmation: filled(32) })],
  [
    'a pairing invitation',
    parsePairingInvitation,
    encodePairingInvitation({ userId, serverFingerprint: filled(32), nextFingerprint: filled(32), inviter, seen }),
  ],
  [
    'a pairing introduction',
    parsePairingIntroduction,
    encodePairingIntroduction({ ...introduction, proof: filled(64) }),
  ],
  ['what a device has seen', parseSeenView, encodeSeenView(seen)],
  ['padded data', unpad, pad(filled(20))],
]

const TEXT_DECODERS: readonly [name: string, parse: (text: string) => unknown, valid: string][] = [
  ['a link request', parseLinkRequest, formatLinkRequest(offer)],
  ['a pairing offer', parseOffer, formatQrOffer({ ...offer, serverUrl: 'wss://example.org', part: 'new' })],
  ['a pairing code', parseOffer, '412-730-958-305-118'],
]

/** The valid one with a piece taken out and another put in. */
const nearMiss = (valid: Uint8Array): fc.Arbitrary<Uint8Array> =>
  fc
    .tuple(fc.nat({ max: valid.length }), fc.nat({ max: 40 }), fc.uint8Array({ maxLength: 8 }))
    .map(([start, cut, piece]) => Uint8Array.of(...valid.subarray(0, start), ...piece, ...valid.subarray(start + cut)))

describe('no bytes make a decoder throw', () => {
  test.each(BYTE_DECODERS)('MSG-2: %s', (_name, parse, valid) => {
    expect(parse(valid)).toBeDefined()
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), nearMiss(valid)), (bytes) => {
        expect(['undefined', 'object']).toContain(typeof parse(bytes))
      }),
      { numRuns: 1000 },
    )
  })

  test.each(TEXT_DECODERS)('MSG-2: %s', (_name, parse, valid) => {
    expect(parse(valid)).toBeDefined()
    const near = nearMiss(new TextEncoder().encode(valid)).map((bytes) => new TextDecoder().decode(bytes))
    fc.assert(
      fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.webUrl(), near), (text) => {
        expect(['undefined', 'object']).toContain(typeof parse(text))
      }),
      { numRuns: 1000 },
    )
  })

  test('MSG-2: the record of a pairing', () => {
    const none = encodePairingRecord({ stage: 'none' } as never)
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 300 }), nearMiss(none)), (bytes) => {
        expect(parsePairingRecord(bytes)).toBeUndefined()
      }),
    )
  })

  test('EXP-1: a line of an export is read, or named as one that is none', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ unit: 'binary' }),
          fc.json(),
          fc.json().map((json) => `{"type":"event",${json.slice(1)}`),
        ),
        (text) => {
          try {
            parseExportLine(text, 3)
          } catch (error) {
            expect(error).toBeInstanceOf(ExportFileError)
          }
        },
      ),
      { numRuns: 500 },
    )
  })
})
