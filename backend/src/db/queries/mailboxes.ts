// The mailboxes of linking devices (PROTOCOL F): eight slots of sealed bytes under an id that only the two know,
// written once each, gone ten minutes after the first message.

import type { Queryable, Statement } from '../postgres.ts'

/** Approximate under load: each statement that runs at once may open one more. */
const MAX_OPEN_MAILBOXES = 10_000

export interface MailboxMessage {
  readonly mailboxId: Uint8Array
  /** 0 to 7. */
  readonly slot: number
  /** At most 8 KiB. */
  readonly body: Uint8Array
}

const post: Statement = {
  name: 'post_mailbox_message',
  text: `
    with
    mailbox as (
      select min(p.expires_at) as expires_at
      from pairings as p
      where p.mailbox_id = $1
    ),
    opened as (
      select count(distinct p.mailbox_id) as mailbox_count
      from pairings as p
    ),
    posted as (
      insert into pairings (mailbox_id, slot, body, expires_at)
      select $1, $2, $3, coalesce(mailbox.expires_at, now() + interval '10 minutes')
      from mailbox
      cross join opened
      where
        case
          when mailbox.expires_at is null then opened.mailbox_count < $4
          else mailbox.expires_at > now()
        end
      on conflict (mailbox_id, slot) do nothing
      returning slot
    )
    select
      exists (select 1 from posted) as is_stored,
      mailbox.expires_at is null and opened.mailbox_count >= $4 as is_full
    from mailbox
    cross join opened`,
}

/** `taken`: the slot has its message, or the mailbox is past its time. `full`: no further mailbox is opened now. */
export async function postMailboxMessage(
  db: Queryable,
  { mailboxId, slot, body }: MailboxMessage,
): Promise<'stored' | 'taken' | 'full'> {
  const values = [mailboxId, slot, body, MAX_OPEN_MAILBOXES]
  const [row] = await db.query<{ is_stored: boolean; is_full: boolean }>(post, values)
  if (row?.is_stored === true) return 'stored'
  return row?.is_full === true ? 'full' : 'taken'
}

const read: Statement = {
  name: 'read_mailbox_message',
  text: `
    select p.body
    from pairings as p
    where p.mailbox_id = $1 and p.slot = $2 and p.expires_at > now()`,
}

export async function readMailboxMessage(
  db: Queryable,
  mailboxId: Uint8Array,
  slot: number,
): Promise<Uint8Array | undefined> {
  const [row] = await db.query<{ body: Uint8Array }>(read, [mailboxId, slot])
  return row?.body
}

const deleteExpired: Statement = {
  name: 'delete_expired_mailboxes',
  text: `
    with expired as (
      select p.mailbox_id, p.slot
      from pairings as p
      where p.expires_at <= now()
      for update skip locked
    )
    delete from pairings as p
    using expired
    where p.mailbox_id = expired.mailbox_id and p.slot = expired.slot
    returning p.slot`,
}

/** Returns how many messages went. Those that another node is deleting are left to it. */
export async function deleteExpiredMailboxes(db: Queryable): Promise<number> {
  return (await db.query(deleteExpired, [])).length
}
