// The two ways into the log, which must keep the same claims: a batch (append_events), and the short way of one run
// (append_run). And both functions at once with what keeps a claim taken away.

import type { Queryable } from '../../src/db/postgres.ts'
import { type AppendRun, appendBatch, appendRuns } from '../../src/db/queries/events.ts'
import { type SchemaChange, statement, withFunction, withoutConstraint } from './scene.ts'

export interface AppendWay {
  readonly way: string
  readonly append: typeof appendRuns
}

export const APPEND_WAYS: readonly AppendWay[] = [
  { way: 'in a batch', append: appendBatch },
  { way: 'by the short way', append: appendRuns },
]

export const appending =
  ({ append }: AppendWay, run: AppendRun, maxStreams = 10, maxUserBytes?: number) =>
  (tx: Queryable) =>
    append(tx, [run], { maxStreams, maxUserBytes })

const together =
  (...changes: readonly SchemaChange[]): SchemaChange =>
  async (connection) => {
    for (const change of changes) await change(connection)
  }

export const withAppendEvents = withFunction('append_events')
const withAppendRun = withFunction('append_run')

export const withoutUserLock = together(
  withAppendEvents('for no key update of u', ''),
  withAppendRun('for no key update of u', ''),
)

/** append_run looks at the device in the statement that locks it; here it looks before. */
export const withoutDeviceLock = together(
  withAppendEvents('for no key update of d', ''),
  withAppendRun(
    `and d.revoked_at is null
    and d.suspended_at is null
    and d.last_device_seq = p_first_seq - 1
    and d.last_log_seq <= p_first_log_seq
    and d.last_chain = p_chain_prev`,
    `and exists (
      select
      from devices as x
      where
        x.user_id = d.user_id
        and x.device_id = d.device_id
        and x.revoked_at is null
        and x.last_device_seq = p_first_seq - 1
        and x.last_chain = p_chain_prev
    )`,
  ),
)

export const withoutDeviceCounter = together(
  withAppendEvents('run.last_event >= run.first_event\n      and d.user_id', 'run.last_event < 0\n      and d.user_id'),
  withAppendRun(
    `set
    last_device_seq = p_first_seq + p_count - 1,
    last_chain = substring(p_chains, p_count * 32 - 31),
    last_log_seq = p_last_log_seq`,
    'set last_device_seq = d.last_device_seq',
  ),
)

export const withoutKeys = [
  withoutConstraint('events', 'events_pkey'),
  withoutConstraint('events', 'events_stream_seq_key'),
  withoutConstraint('events', 'events_device_seq_key'),
]

/** user_seq from a sequence object: no lock on the user, and no counter in his row that would be one. */
export const withSequenceObject = together(
  statement('create sequence user_seqs'),
  withAppendEvents('coalesce(run.last_user_seq, 0) as last_user_seq', `nextval('user_seqs') - 1 as last_user_seq`),
  withAppendEvents(
    'where u.user_id = substring(p_users, moved.user_index * 32 - 31, 32)',
    'where u.user_id is null and moved.user_index = 0',
  ),
  withAppendRun('select u.last_user_seq, u.stream_count', `select nextval('user_seqs') - 1, u.stream_count`),
  withAppendRun(
    `stream_count = v_stream_count,
    published_bytes = u.published_bytes + v_bytes
  where u.user_id = p_user_id`,
    'stream_count = 0\n  where false',
  ),
  withoutUserLock,
)
