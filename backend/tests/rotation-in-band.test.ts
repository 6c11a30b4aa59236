// Keys that change in band while things happen: a replay, a batch in flight, a slow reader, a revocation, and a socket
// that is killed at each step of the change (SES-2).

import type { ServerMessage } from '@valise/protocol'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { authorOf, offerEntry, sealRevoke } from './bad-input/entries.ts'
import { oneTo } from './event-ordering/observed-log.ts'
import { follow, haveEvents, haveReceipts, roundTrip, wiresOf } from './event-ordering/publishing.ts'
import { createAccount, type TestAccount, type TestDevice } from './support/account.ts'
import type { RawSession } from './support/raw-device.ts'
import type { RekeyStep } from './support/rekey-steps.ts'
import { openRotationScene, type RotationScene } from './support/rotation-scene.ts'
import { storeUnsignedLog } from './support/unsigned-log.ts'

let scene: RotationScene
let account: TestAccount
let writer: TestDevice
let reader: TestDevice

const open = async (flags: Record<string, string> = {}): Promise<void> => {
  scene = await openRotationScene({ flags })
  account = await createAccount(scene, { devices: 2 })
  writer = account.devices[0]!
  reader = account.devices[1]!
}
afterEach(() => scene?.close())

const seqsOf = ({ events }: RawSession): number[] => events.map(({ userSeq }) => userSeq)

describe('keys that change under load', () => {
  test('SES-2: a replay of 100 000 events goes through a hundred sets of keys, each event once, in order', async () => {
    await open()
    const count = 100_000
    const { userId, deviceId } = writer
    const databaseUrl = scene.server.databaseUrl!
    await storeUnsignedLog({ databaseUrl, userId, deviceId, streamId: account.streamId('notes'), count })
    let seq = 0
    let disorder = 0
    const note = (message: ServerMessage): void => {
      if (message.type === 'events') for (const [userSeq] of message.events) if (userSeq !== ++seq) disorder++
    }
    const session = await reader.connect(scene, { cursor: 0, onMessage: note })
    await session.until('the whole log', () => session.isCaughtUp)
    expect([seq, disorder, session.through]).toEqual([count, 0, count])
    // 1000 events a set at most: the server may use up those of its new keys before the device says that it has them.
    expect(session.phase).toBeGreaterThanOrEqual(99)
    expect(session.closeFrame).toBeUndefined()
    await roundTrip(session)
    // Storing the log takes most of it, on a busy machine.
  }, 120_000)

  test('SES-2: batches in flight across a change are all answered, and none is stored twice', async () => {
    await open({ VALISE_SESSION_ROTATE_AFTER_EVENTS: '100' })
    const session = await follow(scene, writer)
    const events = await writer.sealMany('notes', 900)
    // As much as each set of keys may carry, without waiting for an answer: commits and changes of keys overlap.
    for (let at = 0; at < events.length; at += 50) {
      const phase = Math.floor(at / 100)
      await session.until('new keys', () => session.phase === phase)
      session.publish(wiresOf(events.slice(at, at + 50)))
    }
    await haveReceipts(session, events.length)
    expect(session.receipts.map(([deviceSeq, , userSeq]) => [deviceSeq, userSeq])).toEqual(
      oneTo(events.length).map((seq) => [seq, seq]),
    )
    expect(session.phase).toBeGreaterThanOrEqual(8)
    expect(session.refusals).toEqual([])
    const other = await follow(scene, reader)
    expect(seqsOf(other)).toEqual(oneTo(events.length))
  })

  test('SES-2: a slow reader that rekeys is not closed for what was pushed at it', async () => {
    await open({ VALISE_SESSION_ROTATE_AFTER_EVENTS: '100', VALISE_SLOW_CONSUMER_MS: '600000' })
    const [source, slow] = [await follow(scene, writer), await follow(scene, reader)]
    // Larger than what sockets hold between the two, so that the server's buffer fills before the keys are used up.
    const data = new Uint8Array(100_000)
    slow.socket.pause()
    for (let i = 0; i < 110; i++) {
      source.publish([(await writer.seal('notes', { data })).wire])
      await haveReceipts(source, i + 1)
    }
    scene.advance(40_000)
    await roundTrip(source)
    slow.socket.resume()
    await haveEvents(slow, 110)
    expect(seqsOf(slow)).toEqual(oneTo(110))
    expect([slow.closeFrame, slow.phase]).toEqual([undefined, 1])
  })

  test('P6: a device that is revoked in the middle of a change of keys is closed as revoked', async () => {
    await open({ VALISE_SESSION_ROTATE_AFTER_EVENTS: '10' })
    const manager = await follow(scene, writer)
    const steps: RekeyStep[] = []
    const revoked = await reader.connect(scene, {
      cursor: 0,
      onRekeyStep: (step) => {
        steps.push(step)
        return step !== 'response_received'
      },
    })
    manager.publish(wiresOf(await writer.sealMany('notes', 8)))
    await revoked.until('half a change', () => steps.includes('response_received'))

    const answer = await offerEntry(manager, await sealRevoke(account, authorOf(writer), [reader]))
    expect(answer.type).toBe('device_log_appended')
    expect((await revoked.closed).code).toBe(4403)
    const again = await reader.connect(scene, { cursor: 0 })
    expect((await again.closed).code).toBe(4403)
  })
})

describe('a change of keys that is lost', () => {
  beforeEach(() => open({ VALISE_SESSION_ROTATE_AFTER_EVENTS: '100' }))

  test.each(['hint_received', 'init_sent', 'response_received', 'done_sent'] as const)(
    'SES-2: with its socket killed after %s, nothing is lost or doubled, and the next keys change',
    async (killedAt) => {
      const [source, killed] = await Promise.all([
        follow(scene, writer),
        reader.connect(scene, {
          cursor: 0,
          onRekeyStep: (step, socket) => {
            if (step === killedAt) socket.terminate()
            return step !== killedAt
          },
        }),
      ])
      const mine = await reader.sealMany('mine', 60)
      killed.publish(wiresOf(mine))
      source.publish(wiresOf(await writer.sealMany('notes', 60)))
      await killed.closed
      await haveReceipts(source, 60)

      const next = await follow(scene, reader, killed.through)
      next.publish(wiresOf(mine))
      await haveReceipts(next, 60)
      await next.until('the events', () => killed.events.length + next.events.length >= 60)
      expect([...killed.events, ...next.events].map(({ deviceSeq }) => deviceSeq)).toEqual(oneTo(60))
      expect(next.receipts.map(([deviceSeq]) => deviceSeq)).toEqual(oneTo(60))

      source.publish(wiresOf(await writer.sealMany('notes', 60)))
      await next.until('all events', () => killed.events.length + next.events.length >= 120)
      await next.until('new keys', () => next.phase > 0)
      await roundTrip(next)
      expect([...killed.events, ...next.events].map(({ deviceSeq }) => deviceSeq)).toEqual(oneTo(120))
    },
  )
})
