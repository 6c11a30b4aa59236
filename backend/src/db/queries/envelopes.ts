// The sealed boxes of one device and the links between epochs, by epoch (PROTOCOL D).

import type { Queryable, Statement } from '../postgres.ts'
import { formatIntegers } from '../values.ts'
import { RECOVERY_ROLE } from './devices.ts'

export interface EnvelopePage {
  readonly boxes: readonly { readonly epoch: number; readonly box: Uint8Array }[]
  /** Those of one epoch newest first. */
  readonly links: readonly { readonly epoch: number; readonly prevEpoch: number; readonly box: Uint8Array }[]
  /** False when later epochs follow. */
  readonly isLast: boolean
}

const read: Statement = {
  name: 'read_envelopes',
  text: `
    select e.epoch, k.box
    from key_epochs as e
    left join key_envelopes as k on k.user_id = e.user_id and k.device_id = $2 and k.epoch = e.epoch
    where e.user_id = $1 and e.epoch > $3
    order by e.epoch
    limit $4`,
}

interface EpochRow {
  readonly epoch: number
  readonly box: Uint8Array | null
}

const readLinks: Statement = {
  name: 'read_key_links',
  text: `
    select l.epoch, l.prev_epoch, l.box
    from key_links as l
    where l.user_id = $1 and l.epoch > $2 and l.epoch <= $3
    order by l.epoch, l.prev_epoch desc`,
}

interface LinkRow {
  readonly epoch: number
  readonly prev_epoch: number
  readonly box: Uint8Array
}

/** Of at most `limit` epochs after `afterEpoch`. */
export async function readEnvelopes(
  db: Queryable,
  userId: Uint8Array,
  deviceId: Uint8Array,
  afterEpoch: number,
  limit = 100,
): Promise<EnvelopePage> {
  const rows = await db.query<EpochRow>(read, [userId, deviceId, afterEpoch, limit + 1])
  const page = rows.slice(0, limit)
  const last = page.at(-1)?.epoch ?? afterEpoch
  const links = await db.query<LinkRow>(readLinks, [userId, afterEpoch, last])
  return {
    boxes: page.flatMap(({ epoch, box }) => (box === null ? [] : [{ epoch, box }])),
    links: links.map(({ epoch, prev_epoch, box }) => ({ epoch, prevEpoch: prev_epoch, box })),
    isLast: rows.length <= limit,
  }
}

// One statement over rows of one device: it meets the insertion of new boxes and the end of the account in any order.
const dropRead: Statement = {
  name: 'drop_read_envelopes',
  text: `
    delete from key_envelopes as k
    using devices as d
    where
      k.user_id = $1
      and k.device_id = $2
      and k.epoch <= $3
      and d.user_id = k.user_id
      and d.device_id = k.device_id
      and d.role <> ${RECOVERY_ROLE}
      and exists (
        select 1
        from key_envelopes as later
        where later.user_id = k.user_id and later.device_id = k.device_id and later.epoch > $3
      )`,
}

/**
 * Drops a device's boxes of the epochs up to `throughEpoch`, which it says that it has (DEV-18), unless it has no later one:
 * from the newest box the links lead back to all epochs. Those of the recovery device stay.
 */
export const dropReadEnvelopes = async (
  db: Queryable,
  userId: Uint8Array,
  deviceId: Uint8Array,
  throughEpoch: number,
): Promise<void> => {
  await db.query(dropRead, [userId, deviceId, throughEpoch])
}

const dropLinked: Statement = {
  name: 'drop_linked_envelopes',
  text: `
    delete from key_envelopes as k
    using devices as d
    where
      k.user_id = $1
      and k.device_id = $2
      and k.epoch = any ($3::bigint[])
      and d.user_id = k.user_id
      and d.device_id = k.device_id
      and d.role <> ${RECOVERY_ROLE}
      and exists (
        select 1
        from key_envelopes as later
        where later.user_id = k.user_id and later.device_id = k.device_id and later.epoch > k.epoch
      )`,
}

/**
 * Drops a device's boxes of the epochs that it has linked itself (DEV-18): it sealed their secrets into the links, so it
 * has them. An epoch that it could not open it cannot link, and that box stays.
 */
export const dropLinkedEnvelopes = async (
  db: Queryable,
  userId: Uint8Array,
  deviceId: Uint8Array,
  epochs: readonly number[],
): Promise<void> => {
  if (epochs.length > 0) await db.query(dropLinked, [userId, deviceId, formatIntegers(epochs)])
}
