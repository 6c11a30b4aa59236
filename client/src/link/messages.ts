// The four messages of a linking, as bytes (protocol's writer and reader; strict).

import {
  createByteReader,
  createByteWriter,
  type DeviceRecord,
  decodeUtf8,
  encodeDeviceRecord,
  encodeUtf8,
  MAX_DEVICE_RECORD_BYTES,
  parseDeviceRecord,
  toUserId,
  type UserId,
} from '@valise/protocol'

const MAX_TEXT_BYTES = 256

/** Slot 0: who wants to join. */
export interface Introduction {
  readonly record: DeviceRecord
  readonly name: string
  readonly platform: string
}

/** Slot 1: which account, on which server, with which device log. */
export interface Invitation {
  readonly type: 'invitation'
  readonly userId: UserId
  readonly serverFingerprint: Uint8Array
  readonly nextFingerprint: Uint8Array
  readonly logSeq: number
  readonly logHead: Uint8Array
}

/** Slots 1 and 3 can say instead that the person declined. */
export interface Declined {
  readonly type: 'declined'
}

/** Slot 3: the entry that added the device. */
export interface Done {
  readonly type: 'done'
  readonly seq: number
  readonly entryHash: Uint8Array
}

export const encodeIntroduction = ({ record, name, platform }: Introduction): Uint8Array =>
  createByteWriter()
    .prefixed(encodeDeviceRecord(record))
    .prefixed(encodeUtf8(name))
    .prefixed(encodeUtf8(platform))
    .finish()

export function parseIntroduction(bytes: Uint8Array): Introduction | undefined {
  const reader = createByteReader(bytes)
  const record = parseDeviceRecord(reader.prefixed(MAX_DEVICE_RECORD_BYTES))
  const name = decodeUtf8(reader.prefixed(MAX_TEXT_BYTES))
  const platform = decodeUtf8(reader.prefixed(MAX_TEXT_BYTES))
  if (!reader.finish() || record === undefined || name === undefined || platform === undefined) return undefined
  return { record, name: toPlainText(name), platform: toPlainText(platform) }
}

/** A device's name is shown in a terminal: nothing in it may move the cursor or hide what follows. */
const toPlainText = (text: string): string => text.replace(/\p{C}/gu, '�').slice(0, 64)

const DECLINED = 0
const ACCEPTED = 1

export const encodeDeclined = (): Uint8Array => createByteWriter().u8(DECLINED).finish()

export const encodeInvitation = ({
  userId,
  serverFingerprint,
  nextFingerprint,
  logSeq,
  logHead,
}: Omit<Invitation, 'type'>): Uint8Array =>
  createByteWriter()
    .u8(ACCEPTED)
    .bytes(userId)
    .bytes(serverFingerprint)
    .bytes(nextFingerprint)
    .u64(logSeq)
    .bytes(logHead)
    .finish()

export function parseInvitation(bytes: Uint8Array): Invitation | Declined | undefined {
  const reader = createByteReader(bytes)
  const kind = reader.u8()
  if (kind === DECLINED) return reader.finish() ? { type: 'declined' } : undefined
  const userId = toUserId(reader.bytes(32))
  const serverFingerprint = reader.bytes(32)
  const nextFingerprint = reader.bytes(32)
  const logSeq = reader.u64()
  const logHead = reader.bytes(32)
  if (!reader.finish() || kind !== ACCEPTED || userId === undefined) return undefined
  return { type: 'invitation', userId, serverFingerprint, nextFingerprint, logSeq, logHead }
}

export const encodeDone = ({ seq, entryHash }: Omit<Done, 'type'>): Uint8Array =>
  createByteWriter().u8(ACCEPTED).u64(seq).bytes(entryHash).finish()

export function parseDone(bytes: Uint8Array): Done | Declined | undefined {
  const reader = createByteReader(bytes)
  const kind = reader.u8()
  if (kind === DECLINED) return reader.finish() ? { type: 'declined' } : undefined
  const seq = reader.u64()
  const entryHash = reader.bytes(32)
  return kind === ACCEPTED && reader.finish() ? { type: 'done', seq, entryHash } : undefined
}
