// The mailboxes of pairing devices (PROTOCOL F): opened under a number that is nobody else's until it is gone, two seats,
// each slot written once by the seat whose it is, and one end. What is past its time is as if it were not there.

import type { Queryable, Statement } from '../postgres.ts'

/** Nothing of a pairing outlives it. Written into the statements below. */
export const PAIRING_LIFETIME_MS = 600_000

export interface NewMailbox {
  readonly mailboxId: Uint8Array
  readonly nameplate: number
  /** Of the key that proves the displaying device's seat, 32 bytes. */
  readonly displayerHash: Uint8Array
  /** Whose share of the places it takes. */
  readonly openerAddress: string
}

/** `evicted`: another address, which held fewer places, got its place. */
export type MailboxEnding = 'failed' | 'ended' | 'evicted'

export interface Mailbox {
  readonly nameplate: number
  readonly displayerHash: Uint8Array
  readonly joinerHash: Uint8Array | undefined
  readonly joinerAddress: string | undefined
  readonly ending: MailboxEnding | undefined
  readonly ageMs: number
}

const insert: Statement = {
  name: 'insert_pairing_mailbox',
  text: `
    insert into pairing_mailboxes (mailbox_id, nameplate, displayer_hash, opener_address, expires_at)
    values ($1, $2, $3, $4, now() + interval '10 minutes')
    on conflict do nothing
    returning nameplate`,
}

const findId: Statement = {
  name: 'find_pairing_mailbox_id',
  text: 'select p.mailbox_id from pairing_mailboxes as p where p.mailbox_id = $1',
}

/** A second statement says what was taken: the first may have waited for whom it does not see. */
export async function insertMailbox(
  db: Queryable,
  { mailboxId, nameplate, displayerHash, openerAddress }: NewMailbox,
): Promise<'inserted' | 'id_taken' | 'nameplate_taken'> {
  if ((await db.query(insert, [mailboxId, nameplate, displayerHash, openerAddress])).length > 0) return 'inserted'
  return (await db.query(findId, [mailboxId])).length > 0 ? 'id_taken' : 'nameplate_taken'
}

const count: Statement = {
  name: 'count_pairing_mailboxes',
  text: `
    select
      count(*) filter (where p.ending is null and p.expires_at > now()) as open_count,
      count(*) as row_count
    from pairing_mailboxes as p`,
}

/** `rowCount`: with those that have ended, whose devices are still to be told how. */
export async function countMailboxes(
  db: Queryable,
): Promise<{ readonly openCount: number; readonly rowCount: number }> {
  const [row] = await db.query<{ open_count: number; row_count: number }>(count, [])
  return { openCount: row?.open_count ?? 0, rowCount: row?.row_count ?? 0 }
}

const readHolders: Statement = {
  name: 'read_pairing_place_holders',
  text: `
    select p.opener_address, count(*) as place_count
    from pairing_mailboxes as p
    where p.ending is null and p.expires_at > now()
    group by p.opener_address
    order by min(p.opened_at)`,
}

/** How many open mailboxes each address has; first the address that has had one for longest. */
export async function readPlaceHolders(
  db: Queryable,
): Promise<readonly { readonly address: string; readonly placeCount: number }[]> {
  const rows = await db.query<{ opener_address: string; place_count: number }>(readHolders, [])
  return rows.map(({ opener_address, place_count }) => ({ address: opener_address, placeCount: place_count }))
}

const evictNewest: Statement = {
  name: 'evict_newest_pairing_mailbox',
  text: `
    with newest as (
      select p.mailbox_id
      from pairing_mailboxes as p
      where p.opener_address = $1 and p.ending is null and p.expires_at > now()
      order by p.opened_at desc
      limit 1
      for update skip locked
    )
    update pairing_mailboxes as p
    set ending = 'evicted'
    from newest
    where p.mailbox_id = newest.mailbox_id
    returning p.mailbox_id`,
}

/** Ends the mailbox that the address opened last, with its messages. False when nothing of the address can be had now. */
export async function evictNewestMailbox(tx: Queryable, address: string): Promise<boolean> {
  const [row] = await tx.query<{ mailbox_id: Uint8Array }>(evictNewest, [address])
  if (row !== undefined) await tx.query(forgetMessages, [row.mailbox_id])
  return row !== undefined
}

const deleteOldestEnded: Statement = {
  name: 'delete_oldest_ended_pairing_mailbox',
  text: `
    with oldest as (
      select p.mailbox_id
      from pairing_mailboxes as p
      where p.ending is not null
      order by p.opened_at
      limit 1
      for update skip locked
    )
    delete from pairing_mailboxes as p
    using oldest
    where p.mailbox_id = oldest.mailbox_id
    returning p.ending`,
}

/** Its devices are told afterwards that there is no such pairing. */
export async function deleteOldestEndedMailbox(tx: Queryable): Promise<void> {
  await tx.query(deleteOldestEnded, [])
}

const find: Statement = {
  name: 'find_pairing_mailbox',
  text: `
    select
      p.nameplate,
      p.displayer_hash,
      p.joiner_hash,
      p.joiner_address,
      p.ending,
      date_part('epoch', now() - p.opened_at) * 1000 as age_ms
    from pairing_mailboxes as p
    where p.mailbox_id = $1 and p.expires_at > now()`,
}

interface MailboxRow {
  readonly nameplate: number
  readonly displayer_hash: Uint8Array
  readonly joiner_hash: Uint8Array | null
  readonly joiner_address: string | null
  readonly ending: MailboxEnding | null
  readonly age_ms: number
}

export async function findMailbox(db: Queryable, mailboxId: Uint8Array): Promise<Mailbox | undefined> {
  const [row] = await db.query<MailboxRow>(find, [mailboxId])
  if (row === undefined) return undefined
  return {
    nameplate: row.nameplate,
    displayerHash: row.displayer_hash,
    joinerHash: row.joiner_hash ?? undefined,
    joinerAddress: row.joiner_address ?? undefined,
    ending: row.ending ?? undefined,
    ageMs: Number(row.age_ms),
  }
}

const findByNameplate: Statement = {
  name: 'find_pairing_mailbox_by_nameplate',
  text: `
    select p.mailbox_id
    from pairing_mailboxes as p
    where p.nameplate = $1 and p.expires_at > now()`,
}

export async function findMailboxByNameplate(db: Queryable, nameplate: number): Promise<Uint8Array | undefined> {
  const [row] = await db.query<{ mailbox_id: Uint8Array }>(findByNameplate, [nameplate])
  return row?.mailbox_id
}

const seat: Statement = {
  name: 'seat_pairing_joiner',
  text: `
    update pairing_mailboxes as p
    set joiner_hash = $2, joiner_address = $3
    where
      p.mailbox_id = $1
      and p.expires_at > now()
      and p.opened_at > now() - make_interval(secs => $4)
      and p.joiner_hash is null
      and p.ending is null
    returning p.nameplate`,
}

/** False unless the seat was free, and the mailbox younger than `maxAgeMs`: of two at once the row's lock lets one in. */
export async function seatJoiner(
  db: Queryable,
  mailboxId: Uint8Array,
  joiner: { readonly hash: Uint8Array; readonly address: string; readonly maxAgeMs: number },
): Promise<boolean> {
  const { hash, address, maxAgeMs } = joiner
  return (await db.query(seat, [mailboxId, hash, address, maxAgeMs / 1000])).length > 0
}

const post: Statement = {
  name: 'post_pairing_message',
  text: `
    insert into pairing_messages (mailbox_id, slot, body)
    select p.mailbox_id, $2, $3
    from pairing_mailboxes as p
    where p.mailbox_id = $1 and p.ending is null and p.expires_at > now()
    for share
    on conflict (mailbox_id, slot) do nothing
    returning slot`,
}

const read: Statement = {
  name: 'read_pairing_message',
  text: `
    select m.body
    from pairing_messages as m
    where m.mailbox_id = $1 and m.slot = $2`,
}

export async function readMessage(db: Queryable, mailboxId: Uint8Array, slot: number): Promise<Uint8Array | undefined> {
  const [row] = await db.query<{ body: Uint8Array }>(read, [mailboxId, slot])
  return row?.body
}

/**
 * `same`: this very message is there already, its answer may have been lost. `closed`: the mailbox has ended, and takes
 * none. What is there is read by a second statement, which sees the message that the first has waited for.
 */
export async function postMessage(
  db: Queryable,
  { mailboxId, slot, body }: { readonly mailboxId: Uint8Array; readonly slot: number; readonly body: Uint8Array },
): Promise<'stored' | 'same' | 'taken' | 'closed'> {
  if ((await db.query(post, [mailboxId, slot, body])).length > 0) return 'stored'
  const before = await readMessage(db, mailboxId, slot)
  if (before === undefined) return 'closed'
  return Buffer.from(before).equals(body) ? 'same' : 'taken'
}

const finish: Statement = {
  name: 'end_pairing_mailbox',
  text: `
    update pairing_mailboxes as p
    set ending = $2
    where p.mailbox_id = $1 and p.ending is null and p.expires_at > now()
    returning p.nameplate`,
}

const forgetMessages: Statement = {
  name: 'delete_pairing_messages',
  text: 'delete from pairing_messages as m where m.mailbox_id = $1 returning m.slot',
}

/** The first end stays. The number stays taken until the mailbox's time is over; the messages go at once. */
export async function endMailbox(tx: Queryable, mailboxId: Uint8Array, ending: MailboxEnding): Promise<boolean> {
  const isFirst = (await tx.query(finish, [mailboxId, ending])).length > 0
  await tx.query(forgetMessages, [mailboxId])
  return isFirst
}

const deleteExpired: Statement = {
  name: 'delete_expired_pairing_mailboxes',
  text: `
    with expired as (
      select p.mailbox_id
      from pairing_mailboxes as p
      where p.expires_at <= now()
      for update skip locked
    )
    delete from pairing_mailboxes as p
    using expired
    where p.mailbox_id = expired.mailbox_id
    returning p.ending`,
}

/** Returns how many went that nobody had ended. Those that another node is deleting are left to it. */
export async function deleteExpiredPairings(db: Queryable): Promise<number> {
  const rows = await db.query<{ ending: MailboxEnding | null }>(deleteExpired, [])
  return rows.filter(({ ending }) => ending === null).length
}
