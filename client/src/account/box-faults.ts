// Finds false boxes and links (PROTOCOL D, DEV-16). A box is what the epoch's secret makes it, so every device that has the
// secret computes each box that a new entry commits to, the recovery device's first, and each link whose older secret it
// has. One that differs is the fault of the entry's signer: a live manager suspends that device and starts an epoch.
// Nothing waits for this. At most 52 boxes an entry; HPKE yields to the event loop between them.

import {
  boxHash,
  type CommittedBox,
  type Crypto,
  chainStart,
  type DeviceId,
  type DeviceLogState,
  type EpochState,
  equalBytes,
  findDevice,
  findEpoch,
  isSameId,
  noUserId,
  toDeviceId,
  toHex,
} from '@valise/protocol'
import { decode, encode } from 'cborg'
import { z } from 'zod'
import { sealBox } from '../sealing/box.ts'
import { checkLinks } from '../sealing/epoch-links.ts'
import { storeKeys } from '../store/layout.ts'
import type { LocalLog } from '../store/local-log.ts'
import { put, type Store } from '../store/store.ts'
import type { EpochKeys } from './epoch-keys.ts'
import type { LogBook } from './log-book.ts'
import type { Suspension } from './suspend-faulty.ts'

/** An entry that commits to a false box or link. */
export interface BoxFault {
  readonly signer: DeviceId
  readonly logSeq: number
}

export interface BoxFaults {
  /** Keys were read, or a session is live: checks what is new, and acts on what was found. Never rejects. */
  consider(): void
  /** The session is over: the next one tries again. */
  reset(): void
  close(): void
}

export interface BoxFaultsParts {
  readonly store: Store
  readonly crypto: Crypto
  readonly ownDeviceId: DeviceId
  readonly book: LogBook
  readonly epochKeys: Pick<EpochKeys, 'secretOf'>
  readonly log: Pick<LocalLog, 'deviceHead'>
  isLive(): boolean
  onFault(fault: BoxFault): void
  suspend(suspension: Suspension): Promise<void>
  rotate(isDue: (log: DeviceLogState) => boolean): Promise<void>
  /** The store failed. */
  onFailure(error: unknown): void
}

/** Epochs that were closed when they were new and that are checked once they open; older ones are given up. */
const MAX_WAITING = 64

const storedChecked = z.strictObject({
  /** The entries up to this one are checked, but for the epochs that wait. */
  seq: z.int().min(0),
  waiting: z.array(z.int().min(1)).max(MAX_WAITING),
  faults: z.array(
    z.strictObject({
      device_id: z.custom<DeviceId>((value) => value instanceof Uint8Array && toDeviceId(value) !== undefined),
      log_seq: z.int().min(0),
    }),
  ),
})
type Checked = z.infer<typeof storedChecked>

export function createBoxFaults(parts: BoxFaultsParts): BoxFaults {
  const { store, crypto, ownDeviceId, book, epochKeys } = parts
  let checked: Checked | undefined
  let isAtWork = false
  let isWanted = false
  let isClosed = false
  const tried = new Set<string>()

  const load = async (log: DeviceLogState): Promise<Checked> => {
    if (checked !== undefined) return checked
    const stored = await store.get(storeKeys.boxesChecked)
    if (stored !== undefined) return storedChecked.parse(decode(stored))
    // What was there before this device came is for those that were there.
    return { seq: findDevice(log, ownDeviceId)?.addedSeq ?? log.seq, waiting: [], faults: [] }
  }
  const save = async (next: Checked): Promise<void> => {
    await store.batch([put(storeKeys.boxesChecked, encode(next))])
    checked = next
  }

  const isFalseBox = async (
    log: DeviceLogState,
    n: number,
    secret: Uint8Array,
    box: CommittedBox,
  ): Promise<boolean> => {
    const { deviceId, logSeq, logHead } = box
    const record = findDevice(log, deviceId)?.record
    if (record === undefined) return false
    const userId = logSeq === 0 ? noUserId() : log.userId
    const sealed = await sealBox(crypto, record, { userId, epochN: n, deviceId, logHead }, secret)
    return !equalBytes(boxHash(crypto, sealed), box.boxHash)
  }

  /** The recovery device first: of all boxes only its holder cannot look. */
  const inOrder = (log: DeviceLogState, boxes: readonly CommittedBox[]): readonly CommittedBox[] => {
    const isRecovery = ({ deviceId }: CommittedBox): boolean => findDevice(log, deviceId)?.record.role === 'recovery'
    return [...boxes.filter(isRecovery), ...boxes.filter((box) => !isRecovery(box))]
  }

  /** The faults of one epoch in entries after `afterSeq`, and whether all of it could be checked. */
  const checkEpoch = async (
    log: DeviceLogState,
    epoch: EpochState,
    afterSeq: number,
  ): Promise<{ readonly faults: readonly BoxFault[]; readonly isComplete: boolean }> => {
    const secret = epochKeys.secretOf(epoch.n)
    if (secret === undefined) return { faults: [], isComplete: false }
    const faultBySeq = new Map<number, BoxFault>()
    const isToCheck = (logSeq: number): boolean => {
      const signer = book.factsAt(logSeq)?.signer
      return logSeq > afterSeq && signer !== undefined && !isSameId(signer, ownDeviceId) && !faultBySeq.has(logSeq)
    }
    const note = (logSeq: number): void => {
      const signer = book.factsAt(logSeq)?.signer
      if (signer !== undefined) faultBySeq.set(logSeq, { signer, logSeq })
    }
    let isComplete = true
    if (isToCheck(epoch.logSeq)) {
      const links = checkLinks(crypto, log, epoch, epochKeys.secretOf)
      if (links.some(({ isTrue }) => isTrue === false)) note(epoch.logSeq)
      isComplete = links.every(({ isTrue }) => isTrue !== undefined)
    }
    for (const box of inOrder(log, epoch.boxes)) {
      if (isClosed) return { faults: [], isComplete: false }
      if (isToCheck(box.logSeq) && (await isFalseBox(log, epoch.n, secret, box))) note(box.logSeq)
    }
    return { faults: [...faultBySeq.values()], isComplete }
  }

  const noteFaults = (before: Checked, faults: readonly BoxFault[]): Checked['faults'] => {
    const isKnown = ({ signer }: BoxFault): boolean =>
      before.faults.some(({ device_id }) => equalBytes(device_id, signer))
    const found = faults.filter((fault) => !isKnown(fault))
    for (const fault of found) parts.onFault(fault)
    return [...before.faults, ...found.map(({ signer, logSeq }) => ({ device_id: signer, log_seq: logSeq }))]
  }

  /** Those whose secrets have come since. */
  const checkWaiting = async (log: DeviceLogState): Promise<void> => {
    for (const n of (await load(log)).waiting) {
      const epoch = findEpoch(log, n)
      const before = await load(log)
      const own = findDevice(log, ownDeviceId)
      const isOpen = epoch !== undefined && [n, ...epoch.links.map((link) => link.n)].every(epochKeys.secretOf)
      if (!isOpen) continue
      const { faults } = await checkEpoch(log, epoch, own?.addedSeq ?? 0)
      if (isClosed) return
      const waiting = before.waiting.filter((each) => each !== n)
      await save({ ...before, waiting, faults: noteFaults(before, faults) })
    }
  }

  const checkNew = async (log: DeviceLogState): Promise<void> => {
    const { seq } = await load(log)
    if (seq >= log.seq) return
    // From the epoch that was in force at `seq`: devices may have been added to it since.
    const epochs: EpochState[] = []
    for (let n = log.epoch.n; n >= 1; n--) {
      const epoch = findEpoch(log, n)
      if (epoch === undefined) break
      epochs.unshift(epoch)
      if (epoch.logSeq <= seq) break
    }
    for (const [index, epoch] of epochs.entries()) {
      const { faults, isComplete } = await checkEpoch(log, epoch, seq)
      if (isClosed) return
      const before = await load(log)
      const waiting = isComplete ? before.waiting : [...new Set([...before.waiting, epoch.n])].slice(-MAX_WAITING)
      const next = { seq: (epochs[index + 1]?.logSeq ?? log.seq + 1) - 1, waiting, faults: noteFaults(before, faults) }
      await save(next)
    }
  }

  const act = async (): Promise<void> => {
    for (const { device_id } of checked?.faults ?? []) {
      const log = book.require()
      const own = findDevice(log, ownDeviceId)
      const isManager = own?.status.type === 'active' && own.record.role === 'manager'
      const faulty = findDevice(log, device_id)
      if (!isManager || !parts.isLive() || faulty === undefined || tried.has(toHex(device_id))) continue
      // It has no say that a suspension could end; the next phrase replaces it.
      if (faulty.record.role === 'recovery' || faulty.status.type === 'revoked') continue
      tried.add(toHex(device_id))
      if (faulty.status.type === 'active') {
        const head = parts.log.deviceHead(faulty.deviceId)
        const chain = head?.chain ?? chainStart(crypto, log.userId, faulty.deviceId)
        await parts.suspend({ deviceId: faulty.deviceId, lastSeq: head?.deviceSeq ?? 0, chain })
      }
      await parts.rotate((state) => {
        const status = findDevice(state, faulty.deviceId)?.status
        return status?.type === 'suspended' && state.epoch.logSeq < status.atSeq
      })
    }
  }

  const work = async (): Promise<void> => {
    const log = book.state
    if (log === undefined) return
    checked = await load(log)
    await checkWaiting(log)
    await checkNew(log)
    if (!isClosed) await act()
  }

  const consider = (): void => {
    if (isClosed) return
    isWanted = true
    if (isAtWork) return
    isAtWork = true
    const run = async (): Promise<void> => {
      while (isWanted && !isClosed) {
        isWanted = false
        await work()
      }
    }
    run()
      .catch(parts.onFailure)
      .finally(() => {
        isAtWork = false
      })
  }

  return {
    consider,
    reset: () => tried.clear(),
    close: () => {
      isClosed = true
    },
  }
}
