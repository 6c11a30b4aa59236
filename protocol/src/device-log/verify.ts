// The one verifier of the device log, the same code on server and client: an entry after a state gives the next state,
// or names the rule it breaks. It verifies the bytes received, then reads what they say; it never throws on them.

import { equalBytes, isAllZero } from '../bytes.ts'
import type { Crypto } from '../crypto.ts'
import { isSameId } from '../ids.ts'
import { verifyWithContext } from '../kdf.ts'
import { deviceIdOf } from './device-record.ts'
import { NO_DEVICES, withDevice } from './device-table.ts'
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

function applyNext(crypto: Crypto, state: DeviceLogState, bytes: Uint8Array, signed: SignedEntry): Applied {
  const { header, body, signature } = signed
  if (state.isClosed) return refuse('closed')
  if (header.opCode === encodeOperationType('genesis')) return refuse('genesis')
  if (!isSameId(header.userId, state.userId)) return refuse('user_id')
  if (header.seq !== state.seq + 1) return refuse('seq')
  if (!equalBytes(header.prev, state.head)) return refuse('prev')
  const signer = findDevice(state, header.signer)
  if (signer === undefined) return refuse('signer_unknown')
  if (signer.status.type === 'suspended') return refuse('signer_suspended')
  if (signer.status.type === 'revoked') return refuse('signer_inactive')
  if (signer.record.role === 'member') return refuse('signer_role')
  if (!verifyWithContext(crypto, signer.record.edPub, 'device-log', body, signature)) return refuse('signature')
  const parsed = parseOperation(header.opCode, signed.payload)
  if (!parsed.ok) return refuse(parsed.rule)
  const { operation } = parsed
  const head = entryHash(crypto, bytes)
  const outcome = applyOperation(crypto, state, operation, { ...signed, hash: head }, signer)
  if ('rule' in outcome) return refuse(outcome.rule)
  const next: DeviceLogState = { userId: state.userId, seq: header.seq, head, ...outcome.effect }
  return { ok: true, state: next, entry: { ...signed, operation } }
}

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
