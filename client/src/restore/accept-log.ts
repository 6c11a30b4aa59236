// A user accepts the log that a server has after a backup was put back. What the device log says is not negotiable: one
// that goes back is an alarm as ever. Resolves when this device's copy is taken back to where both logs agree; a client
// that is opened after that replays what the server has, and sends again what it lost.

import { type Crypto, formatUuid, isSameId } from '@valise/protocol'
import type { Identity } from '../account/identity.ts'
import { openPinKeeper } from '../account/pin-keeper.ts'
import { AlarmError, ClientStoppedError, refusedFor, UpdateNeededError } from '../alarm.ts'
import type { Clock } from '../clock.ts'
import type { DeviceParts } from '../device-parts.ts'
import type { AtRestSealer } from '../store/at-rest.ts'
import type { Store } from '../store/store.ts'
import type { Transport } from '../transport.ts'
import { findCommonPoint } from './common-point.ts'
import { openLogProbe } from './log-probe.ts'
import { type Rebased, rebaseLog } from './rebase.ts'
import { resealErased } from './reseal.ts'

export interface AcceptLogParts {
  readonly store: Store
  readonly sealer: AtRestSealer
  readonly transport: Transport
  readonly crypto: Crypto
  readonly clock: Clock
  readonly clientInfo: string
  readonly identity: Identity
  /** Of a client that is closed. */
  readonly device: Pick<DeviceParts, 'book' | 'localLog' | 'epochKeys' | 'chain' | 'outbox' | 'checkpoints'>
  readonly signal: AbortSignal
}

/** Rejects with a `SetupError` when the server cannot be asked, a `ClientStoppedError` for what it must not say. */
export async function acceptLog(parts: AcceptLogParts): Promise<Rebased> {
  const { crypto, identity, device } = parts
  const { deviceId } = identity
  const { seq, head } = device.book.require()
  const pin = await openPinKeeper({ ...parts, server: identity.server })
  const probe = await openLogProbe({ ...parts, pin, log: { seq, head } })
  try {
    checkSession(parts, probe.established)
    const through = await findCommonPoint({ crypto, log: device.localLog, ownDeviceId: deviceId, probe })
    const { log_epoch, log_epoch_at, server_time } = probe.established
    const resealing = {
      crypto,
      identity,
      epochKeys: device.epochKeys,
      outbox: device.outbox,
      chain: device.chain,
      log: device.localLog,
      state: device.book.require(),
      nowMs: server_time,
      checkpointList: device.checkpoints.list,
    }
    return await rebaseLog(
      {
        ...parts,
        ownDeviceId: deviceId,
        epochKeys: device.epochKeys,
        resealErased: (lost) => resealErased(resealing, lost),
      },
      { through, logEpoch: log_epoch, logEpochAtMs: log_epoch_at, acceptedAtMs: server_time },
    )
  } catch (error) {
    if (error instanceof UpdateNeededError) throw new ClientStoppedError(refusedFor('update_needed'))
    if (error instanceof AlarmError) throw new ClientStoppedError({ type: 'alarm', alarm: error.alarm })
    throw error
  } finally {
    probe.close()
  }
}

function checkSession(
  { identity, device }: AcceptLogParts,
  message: Awaited<ReturnType<typeof openLogProbe>>['established'],
): void {
  const isOurs = isSameId(message.user_id, identity.userId) && isSameId(message.device_id, identity.deviceId)
  if (!isOurs) throw new AlarmError('foreign_session', { device: formatUuid(message.device_id) })
  const known = device.book.require().seq
  const position = { seq: message.device_log_seq, head: message.device_log_head }
  if (position.seq < known) throw new AlarmError('device_log_shorter', { seq: position.seq, known })
  if (device.book.compare(position) === 'contradiction') {
    throw new AlarmError('device_log_forked', { seq: position.seq })
  }
  const { deviceSeq } = device.chain.end
  if (message.last_device_seq > deviceSeq) {
    throw new AlarmError('device_cloned', { server: message.last_device_seq, sealed: deviceSeq })
  }
}
