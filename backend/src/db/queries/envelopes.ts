// The sealed boxes of one device and the links between epochs, by epoch (PROTOCOL D).

import type { Queryable, Statement } from '../postgres.ts'

export interface EnvelopePage {
  readonly boxes: readonly { readonly epoch: number; readonly box: Uint8Array }[]
  readonly prevBoxes: readonly { readonly epoch: number; readonly prevBox: Uint8Array }[]
  /** False when later epochs follow. */
  readonly isLast: boolean
}

const read: Statement = {
  name: 'read_envelopes',
  text: `
    select e.epoch, k.box, e.prev_box
    from key_epochs as e
    left join key_envelopes as k on k.user_id = e.user_id and k.device_id = $2 and k.epoch = e.epoch
    where e.user_id = $1 and e.epoch > $3
    order by e.epoch
    limit $4`,
}

interface EpochRow {
  readonly epoch: number
  readonly box: Uint8Array | null
  readonly prev_box: Uint8Array | null
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
  return {
    boxes: page.flatMap(({ epoch, box }) => (box === null ? [] : [{ epoch, box }])),
    prevBoxes: page.flatMap(({ epoch, prev_box }) => (prev_box === null ? [] : [{ epoch, prevBox: prev_box }])),
    isLast: rows.length <= limit,
  }
}
