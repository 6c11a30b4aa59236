// What a device is charged for pushing out of its user's quota (decision 0042) is charged where events are stored; here it
// gets back what a prune took of its own.

import type { Queryable, Statement } from '../postgres.ts'
import { formatIntegers } from '../values.ts'

// The newest hours first: what was charged last is what is being pruned. Rows are locked in the order in which an append
// charges several devices of a user.
const credit: Statement = {
  name: 'credit_displacement',
  operation: 'update',
  text: `
    with
    own as (
      select substring($2::bytea, given.i::integer * 16 - 15, 16) as device_id, given.bytes
      from unnest($3::bigint[]) with ordinality as given (bytes, i)
    ),
    charged as materialized (
      select x.owner_id, x.device_id, x.hour_at, x.bytes
      from own
      join displacements as x on x.user_id = $1 and x.device_id = own.device_id
      where x.hour_at > now() - interval '25 hours'
      order by x.owner_id, x.device_id, x.hour_at
      for update of x
    ),
    left_over as (
      select
        c.owner_id,
        c.device_id,
        c.hour_at,
        own.bytes - (
          sum(c.bytes) over (partition by c.device_id order by c.hour_at desc, c.owner_id) - c.bytes
        ) as bytes
      from charged as c
      join own on own.device_id = c.device_id
    )
    update displacements as x
    set bytes = x.bytes - least(x.bytes, l.bytes)
    from left_over as l
    where
      x.user_id = $1
      and x.owner_id = l.owner_id
      and x.device_id = l.device_id
      and x.hour_at = l.hour_at
      and l.bytes > 0`,
}

/** `deviceIds`: 16 bytes a device, as many as there are sums. */
export async function creditDisplacement(
  tx: Queryable,
  userId: Uint8Array,
  deviceIds: Uint8Array,
  bytes: readonly number[],
): Promise<void> {
  await tx.query(credit, [userId, deviceIds, formatIntegers(bytes)])
}
