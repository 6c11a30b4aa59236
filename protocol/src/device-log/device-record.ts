// DR of PROTOCOL C: a device's role and public keys as they stand in the device log, and the id made of the keys.
// The role is not part of the id: a device keeps its id when its role changes.

import { type ByteReader, createByteReader, createByteWriter } from '../bytes.ts'
import type { Crypto } from '../crypto.ts'
import { type DeviceId, deviceIdFromHash } from '../ids.ts'
import { hashWithContext } from '../kdf.ts'

/** Managers and recovery devices sign entries; a recovery device publishes nothing. */
export type DeviceRole = 'member' | 'manager' | 'recovery'

/** HPKE KEM identifiers: X-Wing (the default: what is stored can be harvested) and DHKEM(X25519, HKDF-SHA256). */
export type KemId = 0x647a | 0x0020
export const KEM_X_WING = 0x647a
export const KEM_X25519 = 0x0020

export interface DeviceRecord {
  readonly role: DeviceRole
  /** Ed25519, 32 bytes. */
  readonly edPub: Uint8Array
  readonly kemId: KemId
  /** 1 216 bytes (X-Wing) or 32 bytes (X25519). */
  readonly kemPub: Uint8Array
}

const CODE_BY_ROLE: Record<DeviceRole, number> = { member: 1, manager: 2, recovery: 3 }
const ROLE_BY_CODE = new Map<number, DeviceRole>([
  [1, 'member'],
  [2, 'manager'],
  [3, 'recovery'],
])
const KEM_PUB_BYTES_BY_KEM = new Map<number, { kemId: KemId; bytes: number }>([
  [KEM_X_WING, { kemId: KEM_X_WING, bytes: 1216 }],
  [KEM_X25519, { kemId: KEM_X25519, bytes: 32 }],
])

/** DR with an X-Wing key: 1 + 32 + 2 + 4 + 1 216. */
export const MAX_DEVICE_RECORD_BYTES = 1255

export const encodeRole = (role: DeviceRole): number => CODE_BY_ROLE[role]
export const parseRole = (code: number): DeviceRole | undefined => ROLE_BY_CODE.get(code)

export function encodeDeviceRecord(record: DeviceRecord): Uint8Array {
  return createByteWriter()
    .u8(encodeRole(record.role))
    .bytes(record.edPub)
    .u16(record.kemId)
    .prefixed(record.kemPub)
    .finish()
}

/** Strict: `undefined` for an unknown role or KEM, a key of another length than its kind has, or trailing bytes. */
export function parseDeviceRecord(bytes: Uint8Array): DeviceRecord | undefined {
  const reader: ByteReader = createByteReader(bytes)
  const role = parseRole(reader.u8())
  const edPub = reader.bytes(32)
  const kem = KEM_PUB_BYTES_BY_KEM.get(reader.u16())
  const kemPub = reader.prefixed(MAX_DEVICE_RECORD_BYTES)
  if (!reader.finish() || role === undefined || kem === undefined || kemPub.length !== kem.bytes) return undefined
  return { role, edPub, kemId: kem.kemId, kemPub }
}

/** The X25519 public key in it: all of an X25519 key, the end of an X-Wing key (after ML-KEM-768's). */
export const x25519KeyOf = ({ kemPub }: DeviceRecord): Uint8Array => kemPub.subarray(-32)

/** UUIDv8 of hash("device-id", ed_pub | kem_id | LP(kem_pub)). */
export function deviceIdOf(crypto: Crypto, record: DeviceRecord): DeviceId {
  const keys = createByteWriter().bytes(record.edPub).u16(record.kemId).prefixed(record.kemPub).finish()
  return deviceIdFromHash(hashWithContext(crypto, 'device-id', keys))
}
