// The one verifier of the device log, the same code on server and client: an entry after a state gives the next state,
// or names the rule it breaks. It verifies the bytes received, then reads what they say; it never throws on them.

import { equalBytes, isAllZero } from '../bytes.ts'
import type { Crypto } from '../crypto.ts'
import { type DeviceId, isSameId, type UserId } from '../ids.ts'
import { verifyWithContext } from '../kdf.ts'
import { type DeviceRole, deviceIdOf } from './device-record.ts'
import { type DeviceState, type DeviceStatus, NO_DEVICES, withDevice } from './device-table.ts'
import { applyOperation, checkNewRecord, startEpoch } from './effects.ts'
import { entryHash, parseSignedEntry, type SignedEntry, userIdOf } from './entry.ts'
import { encodeOperationType, type Operation, parseOperation } from './operation.ts'
import { NOTHING_PENDING } from './pending.ts'
import type { DeviceLogRule } from './rules.ts'
import { type DeviceLogState, findDevice } from './state.ts'

export interface ParsedEntry extends SignedEntry {
  readonly operation: Operation
}

export type Applied =
  | { readonly ok: true; readonly state: DeviceLogState; readonly entry: ParsedEntry }
  | { readonly ok: false; readonly rule: DeviceLogRule }

const refuse = (rule: DeviceLogRule): Applied => ({ ok: false, rule })

function applyGenesis(crypto: Crypto, bytes: Uint8Array, signed: SignedEntry): Applied {
  const { header, body, signature, proof } = signed
  if (header.opCode !== encodeOperationType('genesis')) return refuse('genesis')
  if (!isAllZero(header.userId)) return refuse('user_id')
  if (header.seq !== 0) return refuse('seq')
  if (!isAllZero(header.prev)) return refuse('prev')
  const parsed = parseOperation(header.opCode, signed.payload)
  if (!parsed.ok) return refuse(parsed.rule)
  const { operation } = parsed
  if (operation.type !== 'genesis') return refuse('genesis')
  const { manager, recovery } = operation
  if (manager.role !== 'manager') return refuse('role')
  if (recovery !== undefined && recovery.role !== 'recovery') return refuse('role')
  const brokenByManager = checkNewRecord(crypto, NO_DEVICES, manager)
  if (brokenByManager !== undefined) return refuse(brokenByManager)
  if (!isSameId(header.signer, deviceIdOf(crypto, manager))) return refuse('device_id')
  if (!verifyWithContext(crypto, manager.edPub, 'device-log', body, signature)) return refuse('signature')

  let devices = withDevice(crypto, NO_DEVICES, manager, 0)
  if (recovery === undefined) {
    if (proof.length > 0) return refuse('malformed')
  } else {
    const broken = checkNewRecord(crypto, devices, recovery)
    if (broken !== undefined) return refuse(broken)
    // Over the whole body: a proof of the record alone would let a server build a false account around it.
    if (!verifyWithContext(crypto, recovery.edPub, 'genesis-pop', body, proof)) return refuse('genesis_pop')
    devices = withDevice(crypto, devices, recovery, 0)
  }
  const started = startEpoch(operation.epoch, { epochN: 0, logHead: new Uint8Array(32) }, { devices, logSeq: 0 })
  if ('rule' in started) return refuse(started.rule)
  const state: DeviceLogState = {
    userId: userIdOf(crypto, bytes),
    seq: 0,
    head: entryHash(crypto, bytes),
    devices,
    epoch: started.epoch,
    pastEpochs: undefined,
    boxCount: started.epoch.boxes.length,
    ...NOTHING_PENDING,
    isClosed: false,
  }
  return { ok: true, state, entry: { ...signed, operation } }
}

/** Where a log stands. */
export interface LogPlace {
  readonly userId: UserId
  readonly seq: number
  /** The hash of the newest entry, 32 bytes. */
  readonly head: Uint8Array
}

/** What has to be known of a signer. */
export interface EntrySigner {
  readonly edPub: Uint8Array
  readonly role: DeviceRole
  readonly status: DeviceStatus['type']
}

/** What an entry breaks whatever it does: it must continue the log, and a device that may sign entries must have signed it. */
function checkSigned(
  crypto: Crypto,
  place: LogPlace,
  { header, body, signature }: SignedEntry,
  findSigner: (deviceId: DeviceId) => EntrySigner | undefined,
): DeviceLogRule | undefined {
  if (header.opCode === encodeOperationType('genesis')) return 'genesis'
  if (!isSameId(header.userId, place.userId)) return 'user_id'
  if (header.seq !== place.seq + 1) return 'seq'
  if (!equalBytes(header.prev, place.head)) return 'prev'
  const signer = findSigner(header.signer)
  if (signer === undefined) return 'signer_unknown'
  if (signer.status === 'suspended') return 'signer_suspended'
  if (signer.status === 'revoked') return 'signer_inactive'
  if (signer.role === 'member') return 'signer_role'
  return verifyWithContext(crypto, signer.edPub, 'device-log', body, signature) ? undefined : 'signature'
}

/**
 * A first look at an entry, for a server that has not verified the log: where it stands and who signs are enough. What
 * passes is still to be applied. `findSigner` reads a row, of the device that the entry names.
 */
export async function checkEntrySigner(
  crypto: Crypto,
  place: LogPlace,
  entry: Uint8Array,
  findSigner: (deviceId: DeviceId) => Promise<EntrySigner | undefined>,
): Promise<DeviceLogRule | undefined> {
  const signed = parseSignedEntry(new Uint8Array(entry))
  if (signed === undefined) return 'malformed'
  const early = checkSigned(crypto, place, signed, () => undefined)
  if (early !== 'signer_unknown') return early
  const signer = await findSigner(signed.header.signer)
  return checkSigned(crypto, place, signed, () => signer)
}

function applyNext(crypto: Crypto, state: DeviceLogState, bytes: Uint8Array, signed: SignedEntry): Applied {
  const { header } = signed
  if (state.isClosed) return refuse('closed')
  const signer = findDevice(state, header.signer)
  const broken = checkSigned(crypto, state, signed, () => signer && signerOf(signer))
  if (broken !== undefined) return refuse(broken)
  if (signer === undefined) return refuse('signer_unknown')
  const parsed = parseOperation(header.opCode, signed.payload)
  if (!parsed.ok) return refuse(parsed.rule)
  const { operation } = parsed
  const head = entryHash(crypto, bytes)
  const outcome = applyOperation(crypto, state, operation, { ...signed, hash: head }, signer)
  if ('rule' in outcome) return refuse(outcome.rule)
  const next: DeviceLogState = { userId: state.userId, seq: header.seq, head, ...outcome.effect }
  return { ok: true, state: next, entry: { ...signed, operation } }
}

const signerOf = ({ record, status }: DeviceState): EntrySigner => ({
  edPub: record.edPub,
  role: record.role,
  status: status.type,
})

/** `state` is `undefined` before genesis. The result holds no view of `entry`. */
export function applyEntry(crypto: Crypto, state: DeviceLogState | undefined, entry: Uint8Array): Applied {
  const bytes = new Uint8Array(entry)
  const signed = parseSignedEntry(bytes)
  if (signed === undefined) return refuse('malformed')
  return state === undefined ? applyGenesis(crypto, bytes, signed) : applyNext(crypto, state, bytes, signed)
}

export type Replayed =
  | { readonly ok: true; readonly state: DeviceLogState | undefined }
  /** `seq` is the place of the refused entry in the log. */
  | { readonly ok: false; readonly rule: DeviceLogRule; readonly seq: number }

/** Applies entries in turn, from genesis or from a state already verified. */
export function applyEntries(
  crypto: Crypto,
  from: DeviceLogState | undefined,
  entries: Iterable<Uint8Array>,
): Replayed {
  let state = from
  for (const entry of entries) {
    const applied = applyEntry(crypto, state, entry)
    if (!applied.ok) return { ok: false, rule: applied.rule, seq: state === undefined ? 0 : state.seq + 1 }
    state = applied.state
  }
  return { ok: true, state }
}
