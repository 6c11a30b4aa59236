// The keys of a pairing against PROTOCOL F, written out once more over Node's own hashes and AES; and what a ceremony makes
// of messages that only a party who knows the secret can write.

import { createDecipheriv, createHash, createHmac } from 'node:crypto'
import { signDevicePop, toDeviceId, toUserId } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { beforeAll, describe, expect, test } from 'vitest'
import { encodeDone } from '../src/link/messages.ts'
import { type CeremonyInput, joinPairing, slotOf, stepCeremony } from '../src/pairing/ceremony.ts'
import type { CeremonyState, StateOf } from '../src/pairing/ceremony-state.ts'
import { cpaceGenerator, cpaceSessionKey, cpaceShare } from '../src/pairing/cpace.ts'
import { derivePairingKeys, otherSeat, sealMessage } from '../src/pairing/keys.ts'
import {
  encodeAnswer,
  encodePairingIntroduction,
  encodePairingInvitation,
  type PairingIntroduction,
  type PairingInvitation,
  parseAnswer,
} from '../src/pairing/messages.ts'
import { MAX_INVITED_DEVICES } from '../src/seen-view.ts'
import { NOW_MS, outcomeOf, type Pair, runPair, SERVER } from './support/pairing-pair.ts'

const ascii = (text: string) => Buffer.from(text, 'ascii')
const prefixed = (part: Uint8Array) => {
  const length = Buffer.alloc(4)
  length.writeUInt32BE(part.length)
  return Buffer.concat([length, part])
}
const hmac = (key: Uint8Array, ...data: Uint8Array[]) => createHmac('sha256', key).update(Buffer.concat(data)).digest()

describe('the keys', () => {
  const mailboxId = crypto.randomBytes(16)
  const sharedPoint = crypto.randomBytes(32)
  const shares = {
    initiator: { share: crypto.randomBytes(32), associatedData: ascii('In') },
    responder: { share: crypto.randomBytes(32), associatedData: ascii('Re') },
  }
  const { initiator, responder } = shares
  const transcript = createHash('sha256')
    .update(Buffer.concat([mailboxId, ...Object.values(shares).flatMap((of) => Object.values(of))].map(prefixed)))
    .digest()
  const root = hmac(new Uint8Array(32), cpaceSessionKey(mailboxId, sharedPoint, initiator, responder))
  // HKDF-Expand-Label of 32 bytes, with this protocol's prefix.
  const expand = (label: string) => {
    const name = ascii(`valise ${label}`)
    return hmac(root, Uint8Array.of(0, 32, name.length), name, Uint8Array.of(32), transcript, Uint8Array.of(1))
  }

  test('PAIR-1: confirmations, keys and digits are those of the document', () => {
    const keys = derivePairingKeys(crypto, mailboxId, sharedPoint, shares)
    expect(keys).toEqual({
      confirmations: {
        initiator: new Uint8Array(hmac(expand('conf i'), transcript)),
        responder: new Uint8Array(hmac(expand('conf r'), transcript)),
      },
      sealing: {
        initiator: new Uint8Array(expand('pair i2r')),
        responder: new Uint8Array(expand('pair r2i')),
      },
      check: String(expand('check').readUInt32BE() % 10_000).padStart(4, '0'),
    })
  })

  test('PAIR-1: what all of them are made of is overwritten', () => {
    const used: (readonly Uint8Array[])[] = []
    const hmacSha256 = (key: Uint8Array, data: Uint8Array): Uint8Array => {
      used.push([key, data])
      return crypto.hmacSha256(key, data)
    }
    derivePairingKeys({ ...crypto, hmacSha256 }, mailboxId, sharedPoint, shares)
    const [[, sessionKey] = [], [rootKey] = []] = used
    expect(sessionKey).toEqual(new Uint8Array(64))
    expect(rootKey).toEqual(new Uint8Array(32))
  })

  test('PAIR-4: there are always four digits', () => {
    const checks = Array.from({ length: 200 }, () => {
      return derivePairingKeys(crypto, crypto.randomBytes(16), sharedPoint, shares).check
    })
    for (const check of checks) expect(check).toMatch(/^\d{4}$/)
    expect(checks.some((check) => check.startsWith('0'))).toBe(true)
  })

  test('PAIR-3: the number of the key’s message is its nonce, the slot is bound to it', () => {
    const key = crypto.randomBytes(32)
    const sealed = sealMessage(crypto, key, 3, 7, ascii('hello'))
    const nonce = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3)
    const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: 16 })
    decipher.setAAD(Uint8Array.of(7)).setAuthTag(sealed.subarray(-16))
    expect(Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()]).toString()).toBe('hello')
  })

  test.each([
    ['qr', crypto.randomBytes(32)],
    ['code', ascii('305118')],
  ] as const)(
    'PAIR-2: the share of who joins by %s is made of the secret, the mailbox and the server',
    (form, secret) => {
      const party = { part: 'new', mailboxId, serverFingerprint: SERVER } as const
      const { scalar, share } = joinPairing({ crypto }, party, { form, secret })
      const channel = Buffer.concat([ascii('valise pair'), SERVER].map(prefixed))
      expect(share).toEqual(cpaceShare(cpaceGenerator({ secret, channel, sessionId: mailboxId }), scalar))
    },
  )
})

describe('a party who knows the secret', () => {
  type Keyed = Extract<CeremonyState, { channel: unknown }>
  const requireKeyed = (state: CeremonyState, type: Keyed['type']): Keyed => {
    if (!('channel' in state) || state.type !== type) throw new Error(`${state.type}, not ${type}`)
    return state
  }
  let pair: Pair
  let awaiting: Record<'invitation' | 'introduction' | 'done', Keyed>
  let invitation: PairingInvitation
  let introduction: PairingIntroduction
  beforeAll(async () => {
    const haltBefore = (halt: number) =>
      runPair({ displays: 'existing' }, (slot, written) => (slot < halt ? written.get(slot) : undefined))
    const early = await haltBefore(3)
    pair = await haltBefore(4)
    awaiting = {
      invitation: requireKeyed(early.fresh(), 'awaiting_invitation'),
      introduction: requireKeyed(pair.existing(), 'awaiting_introduction'),
      done: requireKeyed(pair.fresh(), 'awaiting_done'),
    }
    const { userId, seq, head } = pair.account
    invitation = {
      userId,
      serverFingerprint: SERVER,
      nextFingerprint: SERVER,
      inviter: pair.keys.deviceId,
      seen: { logSeq: seq, logHead: head, chains: [] },
    }
    const { record, signer } = pair.keys
    introduction = { record, name: 'phone', platform: 'linux', proof: await signDevicePop(signer, userId, record) }
  })

  const step = (state: CeremonyState, input: CeremonyInput, nowMs = NOW_MS) =>
    stepCeremony({ crypto, nowMs }, state, input)
  /** The next message of the other, whatever it says. */
  const give = (state: Keyed, body: Uint8Array): CeremonyState => {
    const from = otherSeat(state.seat)
    const { sealing, opened } = state.channel
    return step(state, {
      type: 'message',
      body: sealMessage(crypto, sealing[from], opened, slotOf(from, state.taken), body),
    })
  }

  test('PAIR-3: is understood when the message is whole, and not with a byte too many or too few', () => {
    const done = encodeDone({ seq: 1, entryHash: new Uint8Array(32) })
    const messages = [
      [awaiting.invitation, encodePairingInvitation(invitation), 'introducing'],
      [awaiting.introduction, encodePairingIntroduction(introduction), 'deciding'],
      [awaiting.done, done, 'ended'],
    ] as const
    for (const [state, body, next] of messages) {
      expect(give(state, body)).toMatchObject({ type: next })
      for (const wrong of [Uint8Array.of(...body, 0), body.subarray(0, -1), new Uint8Array(0)]) {
        expect(outcomeOf(give(state, wrong)), next).toEqual({ type: 'failed', failure: 'message_unreadable' })
      }
    }
    expect(outcomeOf(give(awaiting.done, done))).toMatchObject({ type: 'admitted', seq: 1 })
  })

  test('PAIR-3: has room in one message for the chains of as many devices as it tells', () => {
    const chains = Array.from({ length: MAX_INVITED_DEVICES }, (_, i) => ({
      deviceId: toDeviceId(new Uint8Array(16).fill(0x80 + (i % 64)))!,
      deviceSeq: Number.MAX_SAFE_INTEGER,
      chain: new Uint8Array(32).fill(i),
    }))
    const large = { ...invitation, seen: { ...invitation.seen, logSeq: Number.MAX_SAFE_INTEGER, chains } }
    const body = encodePairingInvitation(large)
    expect(body.length).toBeLessThan(8192 - 64)
    expect(give(awaiting.invitation, body)).toMatchObject({ type: 'introducing' })
  })

  test('PAIR-2: and names another server key than the one both started with is refused', () => {
    const elsewhere = encodePairingInvitation({ ...invitation, serverFingerprint: new Uint8Array(32).fill(6) })
    expect(outcomeOf(give(awaiting.invitation, elsewhere))).toEqual({ type: 'failed', failure: 'wrong_server_key' })
  })

  test('DEV-1: a proof made for another account is none', async () => {
    const other = toUserId(new Uint8Array(32).fill(9))!
    const proof = await signDevicePop(pair.keys.signer, other, pair.keys.record)
    const state = give(awaiting.introduction, encodePairingIntroduction({ ...introduction, proof }))
    expect(outcomeOf(state)).toEqual({ type: 'failed', failure: 'keys_not_proved' })
  })

  test('PAIR-2: an answer that says it is the same kind of device is told as that, whatever it confirms', async () => {
    const halted = await runPair({ displays: 'existing' }, (slot, written) =>
      slot < 1 ? written.get(slot) : undefined,
    )
    const answer = parseAnswer(halted.written.get(1)!)!
    const body = encodeAnswer({ ...answer, associatedData: ascii('Rn') })
    expect(outcomeOf(step(halted.fresh(), { type: 'message', body }))).toEqual({ type: 'failed', failure: 'same_part' })
  })

  test('PAIR-6: and confirms later than two minutes after the answer is a failed confirmation', async () => {
    const halted = await runPair({ displays: 'existing' }, (slot, written) =>
      slot < 2 ? written.get(slot) : undefined,
    )
    const answered = halted.existing() as StateOf<'answered'>
    const message = { type: 'message', body: halted.written.get(2)! } as const
    expect(step(answered, message, answered.answeredAtMs + 120_000)).toMatchObject({ type: 'inviting' })
    expect(outcomeOf(step(answered, message, answered.answeredAtMs + 120_001))).toEqual({
      type: 'failed',
      failure: 'not_confirmed',
    })
  })

  test('PAIR-5: a ceremony takes what it waits for and nothing else, and an end at any time', () => {
    for (const state of Object.values(awaiting)) {
      for (const input of [
        { type: 'invitation', invitation },
        { type: 'introduction', introduction },
        { type: 'decision', digits: '1234' },
        { type: 'entry', seq: 1, entryHash: new Uint8Array(32) },
      ] as const) {
        expect(() => step(state, input)).toThrow(`takes no ${input.type}`)
      }
      const ended = step(state, { type: 'end', failure: 'other_ended' })
      expect(outcomeOf(ended)).toEqual({ type: 'failed', failure: 'other_ended' })
      expect(ended).not.toHaveProperty('channel')
    }
  })
})
