// Entries of the device log that must not stand (DEV-1, DEV-2): replayed, forked, foreign, unsigned, spoilt, with the wrong
// boxes. Each is refused by its rule and changes nothing; the right entry after it is appended.

import {
  applyEntry,
  boxHash,
  buildAdd,
  buildRole,
  buildRotate,
  type EntryAuthor,
  ERRORS,
  type ServerMessage,
  signDevicePop,
  toHex,
} from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { SMALL_ORDER_ENCODINGS } from '../../protocol/tests/support/crypto-suite.ts'
import {
  appendEntry,
  authorOf,
  createKeys,
  offerEntry,
  openRegistration,
  register,
  type SealedEntry,
  sealAdd,
  sealClose,
  sealGenesis,
  sealRevoke,
  sealRotate,
} from './bad-input/entries.ts'
import { flipByte, indexes, within } from './bad-input/handshake-steps.ts'
import { createAccount, type TestAccount, type TestDevice } from './support/account.ts'
import type { RawSession } from './support/raw-device.ts'
import { startTestServer, type TestServer } from './support/server.ts'

const MAX_DEVICES = 5

/** What the server said, without the number of the request. */
function said(answer: ServerMessage): string {
  if (answer.type !== 'error') return answer.type
  return answer.rule === undefined ? answer.code : `${answer.code}: ${answer.rule}`
}
const refusedBy = (rule: string): string => `device_log_refused: ${rule}`

describe.each(['postgres', 'pglite'] as const)('on %s', (database) => {
  let server: TestServer
  let account: TestAccount
  let manager: TestDevice
  let member: TestDevice
  let author: EntryAuthor
  let session: RawSession

  beforeAll(async () => {
    server = await startTestServer({ database, flags: { VALISE_MAX_DEVICES: String(MAX_DEVICES) } })
  })
  afterAll(() => server?.close())

  beforeEach(async () => {
    account = await createAccount(server, { devices: 2 })
    ;[manager, member] = account.devices as [TestDevice, TestDevice]
    author = authorOf(manager)
    session = await manager.connect(server)
    return () => session.drop()
  })

  const fetchLog = async () => {
    const log = await session.ask({ type: 'fetch_device_log', request_id: 0, after_seq: null })
    if (log.type !== 'device_log') throw new Error(`no device log but ${log.type}`)
    return { entries: log.entries, headSeq: log.head_seq }
  }

  /** Everything offered was refused, and the log is as it was: the next right entry continues it. */
  async function expectUnchanged(): Promise<void> {
    expect((await fetchLog()).headSeq).toBe(account.log.seq)
    await appendEntry(account, session, await sealAdd(account, author, await createKeys('member')))
    expect((await fetchLog()).headSeq).toBe(account.log.seq)
  }

  test('DEV-1: entries that stand in the log already', async () => {
    const [genesis, add] = (await fetchLog()).entries as [Uint8Array, Uint8Array]
    const nothing = { boxes: [], links: [] }
    expect(said(await offerEntry(session, { entry: add, ...nothing }))).toBe('log_head_moved')
    expect(said(await offerEntry(session, { entry: genesis, ...nothing }))).toBe(refusedBy('genesis'))
    const next = await sealAdd(account, author, await createKeys('member'))
    await appendEntry(account, session, next)
    expect(said(await offerEntry(session, next))).toBe('log_head_moved')
    await expectUnchanged()
  })

  test('DEV-1: of two entries on one head one stands; the other is told, and is signed again', async () => {
    const carrier = await member.connect(server)
    const keys = [await createKeys('member'), await createKeys('member')] as const
    const fork = [await sealAdd(account, author, keys[0]), await sealAdd(account, author, keys[1])] as const
    const answers = await Promise.all([offerEntry(session, fork[0]), offerEntry(carrier, fork[1])])
    expect(answers.map(said).sort()).toEqual(['device_log_appended', 'log_head_moved'])
    const winner = answers.findIndex(({ type }) => type === 'device_log_appended')
    const { entries, headSeq } = await fetchLog()
    expect(headSeq).toBe(account.log.seq + 1)
    expect(toHex(entries.at(-1)!)).toBe(toHex(fork[winner]!.entry))
    const applied = applyEntry(nodeCrypto, account.log, entries.at(-1)!)
    if (applied.ok) account.log = applied.state
    await appendEntry(account, session, await sealAdd(account, author, keys[1 - winner]!))
    carrier.drop()
  })

  test('DEV-1: entries far ahead, of another log, or on a head that never was', async () => {
    const foreign = await createAccount(server)
    const keys = await createKeys('member')
    const onLog = (log: object): Promise<SealedEntry> => sealAdd(account, author, keys, { ...account.log, ...log })
    expect(said(await offerEntry(session, await onLog({ seq: account.log.seq + 1 })))).toBe('log_head_moved')
    expect(said(await offerEntry(session, await onLog({ head: nodeCrypto.randomBytes(32) })))).toBe('log_head_moved')
    expect(said(await offerEntry(session, await onLog({ userId: foreign.userId })))).toBe(refusedBy('user_id'))
    await expectUnchanged()
  })

  test('DEV-1: signers that may not: a member, a stranger, one revoked, one who lends another’s name', async () => {
    const keys = await createKeys('member')
    const stranger = await createKeys('manager')
    const offerAs = async (signing: EntryAuthor): Promise<string> =>
      said(await offerEntry(session, await sealAdd(account, signing, keys)))
    expect(await offerAs(authorOf(member))).toBe(refusedBy('signer_role'))
    expect(await offerAs(authorOf({ keys: stranger }))).toBe(refusedBy('signer_unknown'))
    expect(await offerAs({ ...author, signer: member.keys.signer })).toBe(refusedBy('signature'))
    const carrier = await member.connect(server)
    expect(said(await offerEntry(carrier, await sealAdd(account, authorOf(member), keys)))).toBe(
      refusedBy('signer_role'),
    )
    await appendEntry(account, session, await sealRevoke(account, author, [member]))
    expect(await offerAs(authorOf(member))).toBe(refusedBy('signer_inactive'))
    await expectUnchanged()
  })

  test('H-2: a new device whose key is of small order', async () => {
    const honest = await createKeys('member')
    for (const encoding of SMALL_ORDER_ENCODINGS) {
      const keys = { ...honest, record: { ...honest.record, edPub: Buffer.from(encoding, 'hex') } }
      const answer = await offerEntry(session, await sealAdd(account, author, keys))
      expect(said(answer), encoding).toBe(refusedBy('small_order_key'))
    }
    await expectUnchanged()
  })

  test('DEV-1: a device that did not ask, that is there already, or that brings a role it cannot have', async () => {
    const keys = await createKeys('member')
    const box = nodeCrypto.randomBytes(64)
    const offer = async (record: typeof keys.record, proof: Uint8Array): Promise<string> => {
      const entry = await buildAdd(account.log, author, { record, boxHash: boxHash(nodeCrypto, box), proof })
      return said(await offerEntry(session, { entry, boxes: [{ device_id: keys.deviceId, box }], links: [] }))
    }
    const prove = (record: typeof keys.record) => signDevicePop(keys.signer, account.userId, record)
    expect(await offer(keys.record, await signDevicePop(manager.keys.signer, account.userId, keys.record))).toBe(
      refusedBy('device_pop'),
    )
    expect(await offer(keys.record, new Uint8Array(0))).toBe(refusedBy('device_pop'))
    const raised = { ...keys.record, role: 'manager' as const }
    expect(await offer(raised, await prove(keys.record))).toBe(refusedBy('device_pop'))
    const recovery = { ...keys.record, role: 'recovery' as const }
    expect(await offer(recovery, await prove(recovery))).toBe(refusedBy('role'))
    expect(await offer(member.keys.record, await prove(member.keys.record))).toBe(refusedBy('key_reused'))
    await expectUnchanged()
  })

  test('DEV-1: boxes that are not those the entry commits to, and links that do not fit', async () => {
    const add = await sealAdd(account, author, await createKeys('member'))
    const rotate = await sealRotate(account, author)
    const [first, ...others] = rotate.boxes as [SealedEntry['boxes'][0], SealedEntry['boxes'][0]]
    const [link] = rotate.links
    const spoilt: Record<string, SealedEntry> = {
      'no box for a new device': { ...add, boxes: [] },
      'a box of another device': { ...add, boxes: [{ ...add.boxes[0]!, device_id: member.deviceId }] },
      'a changed box': { ...add, boxes: [{ ...add.boxes[0]!, box: flipByte(add.boxes[0]!.box, 3) }] },
      'a box twice': { ...add, boxes: [add.boxes[0]!, add.boxes[0]!] },
      'a link where none is': { ...add, links: rotate.links },
      'a box left out': { ...rotate, boxes: others },
      'boxes exchanged': { ...rotate, boxes: [{ ...first, box: others[0]!.box }, ...others] },
      'no link': { ...rotate, links: [] },
      'another link': { ...rotate, links: [{ ...link!, box: flipByte(link!.box, 0) }] },
      'a link to another epoch': { ...rotate, links: [{ ...link!, prev_epoch: 2 }] },
      'a link twice': { ...rotate, links: [link!, link!] },
    }
    for (const [name, entry] of Object.entries(spoilt)) {
      expect(said(await offerEntry(session, entry)), name).toBe('envelope_mismatch')
    }
    await expectUnchanged()
  })

  test('DEV-2: epochs that skip, repeat, leave a device out or bring one in', async () => {
    const honest = await sealRotate(account, author)
    const { epoch } = account.log
    const members = honest.boxes.map((each) => ({
      deviceId: each.device_id,
      boxHash: boxHash(nodeCrypto, each.box),
    }))
    const links = honest.links.map(({ prev_epoch, box }) => ({ n: prev_epoch, boxHash: boxHash(nodeCrypto, box) }))
    const start = { n: epoch.n + 1, commit: epoch.commit, members, links }
    const offer = async (changes: Partial<typeof start>): Promise<string> => {
      const entry = await buildRotate(account.log, author, { ...start, ...changes })
      return said(await offerEntry(session, { ...honest, entry }))
    }
    const stranger = { ...members[0]!, deviceId: (await createKeys('member')).deviceId }
    expect(await offer({ n: epoch.n })).toBe(refusedBy('epoch_number'))
    expect(await offer({ n: epoch.n + 2 })).toBe(refusedBy('epoch_number'))
    expect(await offer({ members: members.slice(1) })).toBe(refusedBy('epoch_members'))
    expect(await offer({ members: [...members].reverse() })).toBe(refusedBy('epoch_members'))
    expect(await offer({ members: [...members, stranger] })).toBe(refusedBy('epoch_members'))
    await expectUnchanged()
  })

  test('DEV-1: an entry with any seventh byte flipped, and garbage', async () => {
    const right = await sealAdd(account, author, await createKeys('member'))
    for (const at of indexes(right.entry.length).filter((index) => index % 7 === 0)) {
      const answer = await offerEntry(session, { ...right, entry: flipByte(right.entry, at) })
      expect(said(answer), `byte ${at}`).toMatch(/^(device_log_refused: |log_head_moved)/)
    }
    for (const length of [1, 200, 16_384]) {
      const entry = nodeCrypto.randomBytes(length)
      expect(said(await offerEntry(session, { ...right, entry }))).toBe(refusedBy('malformed'))
    }
    await appendEntry(account, session, right)
  })

  test('DEV-1: the last manager stays, and more devices than this server allows stay out', async () => {
    const demote = await buildRole(account.log, author, { deviceId: manager.deviceId, role: 'member' })
    expect(said(await offerEntry(session, { entry: demote, boxes: [], links: [] }))).toBe(refusedBy('last_manager'))
    expect(said(await offerEntry(session, await sealRevoke(account, author, [manager])))).toBe(
      refusedBy('last_manager'),
    )
    while (account.log.devices.size < MAX_DEVICES) {
      await appendEntry(account, session, await sealAdd(account, author, await createKeys('member')))
    }
    const oneMore = await sealAdd(account, author, await createKeys('member'))
    expect(said(await offerEntry(session, oneMore))).toBe(refusedBy('too_many_devices'))
    await appendEntry(account, session, await sealRevoke(account, author, [member]))
    await expectUnchanged()
  })

  test('P6: a revoked device is cut off in the middle of its session, and its later events are not stored', async () => {
    const cut = await member.connect(server)
    const [first, second] = await member.sealMany('notes', 2)
    cut.publish([first!.wire])
    await cut.until('the receipt', () => cut.receipts.length === 1)
    const revoke = await sealRevoke(account, author, [member])
    const appended = offerEntry(session, revoke)
    const { close: code, text: reason } = ERRORS.device_revoked
    expect(await within('the close', cut.closed)).toEqual({ code, reason })
    expect(said(await appended)).toBe('device_log_appended')
    cut.publish([second!.wire])
    const again = await member.connect(server, { cursor: 0 })
    expect(await within('the close', again.closed)).toEqual({ code, reason })
    const head = await manager.connect(server)
    expect(head.established.head).toBe(1)
    head.drop()
  })

  test('P6: a closed account ends every session of it, and lets none of its devices in again', async () => {
    const other = await member.connect(server)
    expect(said(await offerEntry(session, await sealClose(account.log, author)))).toBe('device_log_appended')
    const { close: code, text: reason } = ERRORS.account_deleted
    for (const each of [session, other]) expect(await within('the close', each.closed)).toEqual({ code, reason })
    await expect(manager.connect(server)).rejects.toThrow('4410')
    await expect(member.connect(server)).rejects.toThrow('4410')
  })

  test('DEV-1: the genesis of a closed account makes it no second time', async () => {
    const keys = await createKeys('manager')
    const genesis = await sealGenesis(keys)
    const first = await openRegistration(server, keys)
    expect(said(await register(first, genesis))).toBe('registered')
    const applied = applyEntry(nodeCrypto, undefined, genesis.entry)
    if (!applied.ok) throw new Error(applied.rule)
    expect(said(await offerEntry(first, await sealClose(applied.state, authorOf({ keys }))))).toBe(
      'device_log_appended',
    )
    const again = await openRegistration(server, keys)
    again.send(genesis)
    const { close: code, text: reason } = ERRORS.account_deleted
    expect(await within('the close', again.closed)).toEqual({ code, reason })
  })
})
