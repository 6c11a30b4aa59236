// The messages of a pairing as bytes (protocol's writer and reader; strict). The first three are open, for they make the
// keys; the others travel sealed.

import { createByteReader, createByteWriter, type DeviceId, toDeviceId, toUserId, type UserId } from '@valise/protocol'
import { encodeIntroduction, type Introduction, parseIntroduction } from '../link/messages.ts'
import { encodeSeenView, parseSeenView, type SeenView } from '../seen-view.ts'
import { CPACE_SHARE_BYTES, type CpaceShare } from './cpace.ts'

const VERSION = 1
const MAX_ASSOCIATED_DATA_BYTES = 8
const CONFIRMATION_BYTES = 32
const SIGNATURE_BYTES = 64
const MAX_INTRODUCTION_BYTES = 4096
const MAX_VIEW_BYTES = 7168

/** m1: which of the two secrets the joiner has, and his share. */
export interface Opening extends CpaceShare {
  readonly form: 'qr' | 'code'
}

export const encodeOpening = ({ form, share, associatedData }: Opening): Uint8Array =>
  createByteWriter()
    .u8(VERSION)
    .u8(form === 'qr' ? 1 : 2)
    .bytes(share)
    .prefixed(associatedData)
    .finish()

export function parseOpening(bytes: Uint8Array): Opening | undefined {
  const reader = createByteReader(bytes)
  const version = reader.u8()
  const form = reader.u8()
  const share = reader.bytes(CPACE_SHARE_BYTES)
  const associatedData = reader.prefixed(MAX_ASSOCIATED_DATA_BYTES)
  if (!reader.finish() || version !== VERSION || (form !== 1 && form !== 2)) return undefined
  return { form: form === 1 ? 'qr' : 'code', share, associatedData }
}

/** m2: the displaying device's share, and its proof that it has the secret. */
export interface Answer extends CpaceShare {
  readonly confirmation: Uint8Array
}

export const encodeAnswer = ({ share, associatedData, confirmation }: Answer): Uint8Array =>
  createByteWriter().bytes(share).prefixed(associatedData).bytes(confirmation).finish()

export function parseAnswer(bytes: Uint8Array): Answer | undefined {
  const reader = createByteReader(bytes)
  const share = reader.bytes(CPACE_SHARE_BYTES)
  const associatedData = reader.prefixed(MAX_ASSOCIATED_DATA_BYTES)
  const confirmation = reader.bytes(CONFIRMATION_BYTES)
  return reader.finish() ? { share, associatedData, confirmation } : undefined
}

/** What the existing device tells the new one: whose it will be, and what the server must show it. */
export interface PairingInvitation {
  readonly userId: UserId
  readonly serverFingerprint: Uint8Array
  readonly nextFingerprint: Uint8Array
  readonly inviter: DeviceId
  /** Device log and chains as the existing device has verified them. */
  readonly seen: SeenView
}

export const encodePairingInvitation = (invitation: PairingInvitation): Uint8Array =>
  createByteWriter()
    .bytes(invitation.userId)
    .bytes(invitation.serverFingerprint)
    .bytes(invitation.nextFingerprint)
    .bytes(invitation.inviter)
    .prefixed(encodeSeenView(invitation.seen))
    .finish()

export function parsePairingInvitation(bytes: Uint8Array): PairingInvitation | undefined {
  const reader = createByteReader(bytes)
  const userId = toUserId(reader.bytes(32))
  const serverFingerprint = reader.bytes(32)
  const nextFingerprint = reader.bytes(32)
  const inviter = toDeviceId(reader.bytes(16))
  const seen = parseSeenView(reader.prefixed(MAX_VIEW_BYTES))
  if (!reader.finish() || userId === undefined || inviter === undefined || seen === undefined) return undefined
  return { userId, serverFingerprint, nextFingerprint, inviter, seen }
}

/** What the new device tells the existing one: who it is, and that its keys are its own. */
export interface PairingIntroduction extends Introduction {
  /** device-pop over the user's id and the record. */
  readonly proof: Uint8Array
}

export const encodePairingIntroduction = ({ proof, ...introduction }: PairingIntroduction): Uint8Array =>
  createByteWriter().prefixed(encodeIntroduction(introduction)).bytes(proof).finish()

export function parsePairingIntroduction(bytes: Uint8Array): PairingIntroduction | undefined {
  const reader = createByteReader(bytes)
  const introduction = parseIntroduction(reader.prefixed(MAX_INTRODUCTION_BYTES))
  const proof = reader.bytes(SIGNATURE_BYTES)
  return reader.finish() && introduction !== undefined ? { ...introduction, proof } : undefined
}
