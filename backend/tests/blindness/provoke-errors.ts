// Errors in every layer of a running server, each with a secret in what provoked it: none of them may show what it was.

import { randomBytes } from 'node:crypto'
import { createClient } from '@redis/client'
import pg from 'pg'
import { dial } from '../support/raw-device.ts'
import type { TestServer } from '../support/server.ts'

export interface Provocation {
  readonly server: TestServer
  /** Where the server hears its users; undefined without Redis. */
  readonly redis: { readonly url: string; readonly channels: readonly string[] } | undefined
  /** Makes a device publish, and resolves when it has been stored after all. */
  publish(): Promise<void>
  /** Resolves when the server has logged an event of this name. */
  untilLogged(event: string): Promise<unknown>
}

/** Resolves with the secrets, by what they were in. */
export async function provokeErrors(provocation: Provocation): Promise<ReadonlyMap<string, string>> {
  const secrets = new Map<string, string>()
  const plant = (where: string): string => {
    if (secrets.has(where)) throw new Error(`two secrets for ${where}`)
    const secret = `planted-${randomBytes(15).toString('base64url')}`
    secrets.set(where, secret)
    return secret
  }
  await askNonsense(provocation.server, plant)
  await shakeHandsWrong(provocation.server, plant)
  await failInDatabase(provocation, plant)
  await announceNonsense(provocation, plant)
  return secrets
}

const DISK_FULL = `
  create function disk_full() returns trigger language plpgsql as $$
  begin
    raise exception 'disk full' using errcode = '53100', detail = new::text, hint = encode(new.wire, 'hex');
  end $$;
  create trigger disk_full before insert on events for each row execute function disk_full()`

type Plant = (where: string) => string

async function askNonsense({ url, app }: TestServer, plant: Plant): Promise<void> {
  for (const base of [url.replace('ws', 'http'), app.adminUrl]) {
    const headers = { authorization: plant(`a header to ${base}`), cookie: plant(`a cookie to ${base}`) }
    const path = `v1/${plant(`a path of ${base}`)}?code=${plant(`a query to ${base}`)}`
    const response = await fetch(`${base}/${path}`, { headers })
    if (response.status !== 404) throw new Error(`a path that is none was answered with ${response.status}`)
  }
}

async function shakeHandsWrong({ url }: TestServer, plant: Plant): Promise<void> {
  for (const send of [plant('a hello'), Buffer.from(plant('a frame'))]) {
    const { socket, closed } = await dial(url)
    socket.send(send)
    await closed
  }
}

/** The disk is full, with the whole row in the error; and a table is gone. */
async function failInDatabase({ server, publish, untilLogged }: Provocation, plant: Plant): Promise<void> {
  if (server.databaseUrl === undefined) return
  const sql = new pg.Client({ connectionString: server.databaseUrl })
  await sql.connect()
  try {
    await sql.query(DISK_FULL)
    await sql.query('alter table pairings rename to hidden')
    const publishing = publish()
    const mailbox = `${server.url.replace('ws', 'http')}/v1/mailboxes/${randomBytes(16).toString('hex')}/0`
    const response = await fetch(mailbox, { method: 'PUT', body: plant('a message that was not stored') })
    if (response.status !== 503) throw new Error(`a mailbox without its table was answered with ${response.status}`)
    await untilLogged('http.request.fail')
    await untilLogged('log.request.fail')
    await sql.query('alter table hidden rename to pairings')
    await sql.query('drop trigger disk_full on events')
    await publishing
  } finally {
    await sql.end()
  }
}

async function announceNonsense({ redis, untilLogged }: Provocation, plant: Plant): Promise<void> {
  if (redis === undefined) return
  const client = createClient({ url: redis.url, socket: { reconnectStrategy: false } })
  client.on('error', () => {})
  await client.connect()
  try {
    for (const channel of redis.channels) await client.publish(channel, plant(`an announcement on ${channel}`))
    await untilLogged('bus.announcement.forged')
  } finally {
    client.destroy()
  }
}
