// What an application sees of a device: publish, flush, read, and know how things stand. `open-client.ts` builds it.

import type { Crypto, DeviceId, EventId, ServerKeyPin } from '@valise/protocol'
import type { NewDeviceProof } from './account/add-device.ts'
import type { AddedDevice } from './account/added-devices.ts'
import type { NewRecovery, RecoveryOutcome } from './account/change-recovery.ts'
import type { CloseOutcome } from './account/close-account.ts'
import type { Identity, ServerPin } from './account/identity.ts'
import type { RevokeReason } from './account/manage-devices.ts'
import type { Pending, PendingChange, PendingKind } from './account/pending.ts'
import type { ServerKeyMove } from './account/pin-keeper.ts'
import type { DeviceProfile } from './account/profile.ts'
import type { StopCause } from './alarm.ts'
import type { ClientLog } from './client-log.ts'
import type { Clock } from './clock.ts'
import type { DeviceParts } from './device-parts.ts'
import type { ReadOptions, ReceivedEvent } from './event-reader.ts'
import type { PresencePicture } from './presence.ts'
import type { PublishDelay } from './publish/delay.ts'
import type { OutboxLimits } from './publish/outbox.ts'
import type { PublishReceipt } from './publish/publisher.ts'
import type { RefusedEvents } from './publish/refused-content.ts'
import type { PublishRefusal } from './publish/repair.ts'
import type { HoldChange } from './receive/holds.ts'
import type { LateEvent } from './receive/late-events.ts'
import type { VoidedEvent } from './receive/void-events.ts'
import type { DeviceKeys } from './sealing/device-keys.ts'
import type { AtRestSealer } from './store/at-rest.ts'
import type { Store } from './store/store.ts'
import type { Transport } from './transport.ts'

export type ClientState =
  /** `retryAtMs` is undefined before `start()`. */
  | { readonly type: 'offline'; readonly text: string; readonly retryAtMs: number | undefined }
  | { readonly type: 'connecting' }
  | { readonly type: 'replaying'; readonly cursor: number; readonly head: number }
  | { readonly type: 'live'; readonly cursor: number }
  | { readonly type: 'stopped'; readonly cause: StopCause }

export interface PublishOptions {
  /** Seconds from storing to expiry; 0 = none. */
  readonly ttlS?: number
  /** The application's time, Unix milliseconds; default: now. */
  readonly atMs?: number
  /** Stored together with the event, so that whoever reads from elsewhere goes on after it: a position by its name. */
  readonly position?: { readonly name: string; readonly userSeq: number }
  readonly signal?: AbortSignal
}

/** The server no longer has the bytes of these events, which this device never had; it gets their leaves. */
export interface Resync {
  readonly reason: 'retention'
  /** The first and the last user_seq. */
  readonly from: number
  readonly to: number
}

/** A device has pushed out as much of the other devices' events in a day as it may; its further events wait. */
export interface StorageDisplacement {
  readonly deviceId: DeviceId
  /** That limit. */
  readonly bytes: number
}

export interface Client {
  start(): void
  /**
   * Resolves when the event is durable in the outbox; waits while the outbox is full. Rejects with `PublishError`, whose
   * cause is a `ClientStoppedError` when the client stopped before there was room; `refused_content_full` says that
   * `refused` leaves no room.
   */
  publish(
    streamName: string,
    content: { readonly type: string; readonly body: Uint8Array },
    options?: PublishOptions,
  ): Promise<{ readonly eventId: EventId }>
  /**
   * Resolves when every event has its receipt or was reported refused. Rejects with `ClientStoppedError`, and with a
   * `PublishError` when this device is suspended.
   */
  flush(signal?: AbortSignal): Promise<void>
  /** What the server refused for good, kept until it is published again or discarded. */
  readonly refused: RefusedEvents
  onReceipt(listener: (receipt: PublishReceipt) => void): () => void
  onRefused(listener: (refusal: PublishRefusal) => void): () => void
  /** The server takes what is published later, and says when; undefined: it takes it again. Nothing has to be done. */
  onPublishDelayed(listener: (delay: PublishDelay | undefined) => void): () => void
  onResync(listener: (resync: Resync) => void): () => void
  /** What was told to sessions before, of events after a user_seq: whoever reads on from there is not given those. */
  resyncsAfter(after: number): Promise<readonly Resync[]>
  /** Calls at once with what is known of the user's other devices, then at each change; undefined while offline. */
  onPresence(listener: (picture: PresencePicture) => void): () => void
  /** Each device that was added to the account since a listener was last told, those known at once first (PAIR-8). */
  onDeviceAdded(listener: (device: AddedDevice) => void): () => void
  /**
   * Each device that is held back: the holds that stand at once, then each change. Held events are handed to nobody; a
   * device that is at fault is suspended by a manager, one that waits is released when what it waits for is here.
   */
  onHeld(listener: (change: HoldChange) => void): () => void
  /** The server's word; it names devices of the verified device log only. */
  onStorageDisplaced(listener: (displacement: StorageDisplacement) => void): () => void
  /** The server changed its key, with signatures of both, and this device followed: told once, also later. */
  onServerKeyMoved(listener: (move: ServerKeyMove) => void): () => void
  /** The key that this device trusts in its server, and the next one. */
  serverPin(): ServerPin
  /** Follows the changes of key that the server has made. Throws an `AlarmError` for one that does not hold. */
  refreshServerPin(): Promise<void>
  /** The user has compared this key with the operator. A client that has stopped stays so: open another. */
  trustServer(pin: ServerKeyPin): Promise<void>
  /** What is stored, then what comes. Throws `ClientStoppedError` when the client stops for good; ends when closed. */
  events(streamName: string | undefined, options?: ReadOptions): AsyncIterable<ReceivedEvent>
  state(): ClientState
  onState(listener: (state: ClientState) => void): () => void
  /** Resolves when replay has reached the head; rejects with `ClientStoppedError`. */
  whenLive(signal?: AbortSignal): Promise<void>
  /** Resolves when a session is up and what it shows is verified; rejects with `ClientStoppedError`. */
  whenReady(signal?: AbortSignal): Promise<void>
  cursor(): number
  /** Signs another device into the account, once a session is up. The seq of the entry. */
  addDevice(device: NewDeviceProof, signal?: AbortSignal): Promise<number>
  /**
   * Opens a mailbox for pairing, once a session is up, or finds that it is open. Waits for a server that is away. Rejects
   * with `RequestRefusedError` over the limit.
   */
  openPairing(
    seat: { readonly mailboxId: Uint8Array; readonly seatKey: Uint8Array },
    signal?: AbortSignal,
  ): Promise<{ readonly nameplate: number; readonly lifetimeMs: number }>
  /**
   * Signs devices out, with a new key epoch for the rest, once this device is live; with itself, it stops as revoked. False
   * when they were revoked before. This and the next three reject with `AccountError` when the log does not allow it, and
   * wait for a server that is away.
   */
  revokeDevices(
    revocation: { readonly deviceIds: readonly DeviceId[]; readonly reason: RevokeReason },
    signal?: AbortSignal,
  ): Promise<boolean>
  /** Starts a new key epoch; its number. */
  rotateEpoch(signal?: AbortSignal): Promise<number>
  /**
   * With a proof by the old phrase, or where there is none, the new one is final at once; else it waits seven days, and then
   * this device settles it by itself. The proof is overwritten when the entry stands or is given up.
   */
  replaceRecovery(next: NewRecovery, signal?: AbortSignal): Promise<RecoveryOutcome>
  /** Puts the phrase that waits in the place of the old one. Rejects with `settle_too_early`, or `nothing_pending`. */
  settleRecovery(signal?: AbortSignal): Promise<void>
  /** Drops the new phrase or the deletion that waits. False when none does. */
  cancelPending(kind: PendingKind, signal?: AbortSignal): Promise<boolean>
  /** What was asked for without the phrase and waits. */
  pending(): Pending[]
  /** What waits now, then each change; to be shown to a person, with who asked. */
  onPending(listener: (change: PendingChange) => void): () => void
  /** False when it has that role already. */
  changeRole(
    change: { readonly deviceId: DeviceId; readonly role: 'manager' | 'member' },
    signal?: AbortSignal,
  ): Promise<boolean>
  /** Events that the application may have applied and that a revocation made void: those known at once, then new ones. */
  onVoided(listener: (events: readonly VoidedEvent[]) => void): () => void
  /**
   * Events that the server had passed over and delivered later: each stands at its own place, before others that the
   * application may have applied already. Those that come from now on; `latePassedBy` has the earlier ones.
   */
  onLate(listener: (events: readonly LateEvent[]) => void): () => void
  /** Late events that a reader at this position may have gone past before they came; for it to ask as it starts. */
  latePassedBy(position: number): Promise<readonly LateEvent[]>
  /**
   * Signs the end of the account, once a session is up; goes on asking while the server is away. With the keys of the
   * phrase, or where there is none, it resolves when the server has none of it any more, and this device's own store stays
   * as it is. Else the deletion waits seven days; this device erases itself when it is carried out.
   */
  closeAccount(phrase: DeviceKeys | undefined, signal?: AbortSignal): Promise<CloseOutcome>
  /**
   * The machine woke up, or its network changed: asks the server at once whether it is still there, with a deadline of
   * five seconds, and comes back at once if the client waits to do so.
   */
  checkLiveness(): void
  /** Tells the user's other devices this one's name and platform; those it has, or new ones. */
  publishProfile(profile?: DeviceProfile): Promise<void>
  /** Leaves the outbox as it is. */
  close(): Promise<void>
  /** What the device holds, for offline reading. */
  readonly device: DeviceParts
}

export interface ClientParts {
  readonly store: Store
  readonly sealer: AtRestSealer
  readonly transport: Transport
  readonly crypto: Crypto
  readonly clock: Clock
  /** Uniform in [0, 1): spreads reconnects. */
  readonly random: () => number
  readonly identity: Identity
  readonly log: ClientLog
  readonly outboxLimits?: OutboxLimits
  /** Events between checkpoints; 0 publishes none. */
  readonly checkpointEvery?: number
  /** At most 64 bytes, for the server's operator. */
  readonly clientInfo: string
  /** The device was revoked and its store erased: what else the platform keeps of it goes now. */
  readonly onErased?: () => Promise<void>
}
