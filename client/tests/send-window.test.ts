// What goes out next, step by step, against answers in every order.

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createSendWindow, type SendWindow } from '../src/publish/send-window.ts'

const LIMITS = { maxEvents: 10, maxBytes: 1000, maxMessageEvents: 4, maxMessageBytes: 300 }
const MANY = 1000
const item = (deviceSeq: number, bytes = 50) => ({ deviceSeq, bytes })
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => item(from + i))
const none = { expected: undefined, retryAtMs: 0 }

function createConnected(count: number): SendWindow {
  const window = createSendWindow(LIMITS)
  window.add(range(1, count))
  window.connected(LIMITS)
  return window
}
const sendAllAt = (window: SendWindow, nowMs: number): number[] => {
  const sent: number[] = []
  for (let step = window.next(nowMs, MANY); step.type === 'send'; step = window.next(nowMs, MANY)) {
    sent.push(...step.deviceSeqs)
  }
  return sent
}
const sendAll = (window: SendWindow): number[] => sendAllAt(window, 0)

describe('sending', () => {
  test('P5: messages are bounded in events and in bytes, and one event always fits', () => {
    const window = createConnected(6)
    expect(window.next(0, MANY)).toEqual({ type: 'send', deviceSeqs: [1, 2, 3, 4] })
    expect(window.next(0, MANY)).toEqual({ type: 'send', deviceSeqs: [5, 6] })
    const large = createSendWindow(LIMITS)
    large.add([item(1, 299), item(2, 2), item(3, 500)])
    large.connected(LIMITS)
    expect(large.next(0, MANY)).toEqual({ type: 'send', deviceSeqs: [1] })
    expect(large.next(0, MANY)).toEqual({ type: 'send', deviceSeqs: [2] })
    expect(large.next(0, MANY)).toEqual({ type: 'send', deviceSeqs: [3] })
  })

  test('P5: more is sealed only while the window has room', () => {
    const window = createConnected(3)
    sendAll(window)
    expect(window.next(0, MANY)).toEqual({ type: 'seal', maxEvents: 7, maxBytes: 850 })
    window.add(range(4, 10))
    sendAll(window)
    expect(window.next(0, MANY)).toEqual({ type: 'idle' })
    window.receipt(1)
    expect(window.next(0, MANY)).toEqual({ type: 'seal', maxEvents: 1, maxBytes: 550 })
  })

  test.each([
    [999, { type: 'seal', maxEvents: 9, maxBytes: 1 }],
    [1000, { type: 'idle' }],
    [1001, { type: 'idle' }],
  ])('P5: with %i bytes of the window taken, its room is what is left', (bytes, step) => {
    const window = createSendWindow(LIMITS)
    window.add([item(1, bytes)])
    window.connected(LIMITS)
    sendAll(window)
    expect(window.next(0, MANY)).toEqual(step)
  })

  test('SES-2: no more is sent than the session keys may still carry', () => {
    const window = createConnected(4)
    expect(window.next(0, 3)).toEqual({ type: 'send', deviceSeqs: [1, 2, 3] })
    expect(window.next(0, 0)).toMatchObject({ type: 'seal' })
    expect(window.next(0, 1)).toEqual({ type: 'send', deviceSeqs: [4] })
  })

  test('without a session nothing happens; a new one sends everything again', () => {
    const window = createConnected(3)
    sendAll(window)
    window.receipt(1)
    window.disconnected()
    expect(window.next(0, MANY)).toEqual({ type: 'idle' })
    window.connected(LIMITS)
    expect(sendAll(window)).toEqual([2, 3])
  })

  test('ORD-6: a refusal that was not repaired is forgotten with its session: the next one says it anew', () => {
    const window = createConnected(3)
    sendAll(window)
    window.refused(1, 'event_refused', none)
    window.disconnected()
    window.connected(LIMITS)
    expect(sendAll(window)).toEqual([1, 2, 3])
    for (const deviceSeq of [1, 2, 3]) window.receipt(deviceSeq)
    expect(window.next(0, MANY)).toMatchObject({ type: 'seal' })
  })

  test('P3: a new session does not wait for the moment that the last one named', () => {
    const window = createConnected(2)
    sendAll(window)
    window.unavailable(5000)
    window.disconnected()
    window.connected(LIMITS)
    expect(sendAll(window)).toEqual([1, 2])
  })

  test('P5: messages are as large as the session of the moment takes them', () => {
    const window = createConnected(5)
    sendAll(window)
    window.disconnected()
    window.connected({ maxMessageEvents: 2, maxMessageBytes: 300 })
    expect(window.next(0, MANY)).toEqual({ type: 'send', deviceSeqs: [1, 2] })
    window.connected({ maxMessageEvents: 4, maxMessageBytes: 150 })
    expect(window.next(0, MANY)).toEqual({ type: 'send', deviceSeqs: [1, 2, 3] })
  })
})

describe('refusals', () => {
  test('ORD-1: after a gap all answers are awaited, then sending goes on from the refused events', () => {
    const window = createConnected(4)
    sendAll(window)
    window.receipt(1)
    window.refused(3, 'device_seq_gap', { expected: 2, retryAtMs: 0 })
    expect(window.next(0, MANY)).toEqual({ type: 'idle' })
    window.refused(4, 'device_seq_gap', { expected: 2, retryAtMs: 0 })
    expect(window.next(0, MANY)).toEqual({ type: 'idle' })
    window.refused(2, 'device_seq_gap', { expected: 2, retryAtMs: 0 })
    expect(sendAll(window)).toEqual([2, 3, 4])
  })

  test('a server that never takes what it asks for is not asked without pause', () => {
    const window = createConnected(1)
    sendAll(window)
    window.refused(1, 'device_seq_gap', { expected: 1, retryAtMs: 0 })
    expect(sendAll(window)).toEqual([1])
    window.refused(1, 'device_seq_gap', { expected: 1, retryAtMs: 0 })
    expect(window.next(0, MANY)).toEqual({ type: 'wait', untilMs: 1000 })
    expect(window.next(1000, MANY)).toEqual({ type: 'send', deviceSeqs: [1] })
  })

  test('a server that took something since is asked without pause', () => {
    const window = createConnected(3)
    for (const deviceSeq of [1, 2]) {
      sendAll(window)
      window.receipt(deviceSeq)
      window.refused(3, 'device_seq_gap', { expected: deviceSeq + 1, retryAtMs: 0 })
      if (deviceSeq === 1) window.refused(2, 'device_seq_gap', { expected: 2, retryAtMs: 0 })
    }
    expect(window.next(0, MANY)).toEqual({ type: 'send', deviceSeqs: [3] })
  })

  test('ORD-1: nothing behind the place where the server stands is repaired before that was sent again', () => {
    const window = createConnected(3)
    sendAll(window)
    window.refused(1, 'rate_limited', { expected: undefined, retryAtMs: 100 })
    window.refused(3, 'device_seq_gap', { expected: 1, retryAtMs: 0 })
    window.refused(2, 'payload_too_large', none)
    expect(sendAllAt(window, 100)).toEqual([1, 2, 3])
  })

  test.each(['payload_too_large', 'event_expired', 'stream_limit_reached', 'event_refused'] as const)(
    'ORD-6: %s is for good: a tombstone takes its place',
    (code) => {
      const window = createConnected(2)
      sendAll(window)
      window.refused(1, code, none)
      window.refused(2, 'device_seq_gap', { expected: 1, retryAtMs: 0 })
      expect(window.next(0, MANY)).toEqual({ type: 'repair', repair: { type: 'bury', deviceSeq: 1, code } })
    },
  )

  test('ORD-6: of several refusals the earliest decides, and the cause outweighs the gaps behind it', () => {
    const window = createConnected(4)
    sendAll(window)
    window.refused(4, 'device_seq_gap', { expected: 2, retryAtMs: 0 })
    window.refused(3, 'payload_too_large', none)
    window.refused(2, 'event_refused', none)
    window.receipt(1)
    const step = window.next(0, MANY)
    expect(step).toEqual({ type: 'repair', repair: { type: 'bury', deviceSeq: 2, code: 'event_refused' } })
    window.replace(range(2, 4))
    expect(sendAll(window)).toEqual([2, 3, 4])
  })

  test('ORD-6: an event that the server could not read is the first one without an answer', () => {
    const window = createConnected(3)
    sendAll(window)
    window.receipt(1)
    window.refused(0, 'event_refused', none)
    window.refused(3, 'device_seq_gap', { expected: 2, retryAtMs: 0 })
    expect(window.next(0, MANY)).toMatchObject({ repair: { type: 'bury', deviceSeq: 2 } })
  })

  test('DEV-2: a stale epoch is sealed again from the first stale event', () => {
    const window = createConnected(2)
    sendAll(window)
    window.refused(1, 'stale_epoch', none)
    window.refused(2, 'device_seq_gap', { expected: 1, retryAtMs: 0 })
    const repair = { type: 'seal_again', deviceSeq: 1, code: 'stale_epoch' }
    expect(window.next(0, MANY)).toEqual({ type: 'repair', repair })
  })

  test('ORD-6: an entry that the server does not have is sealed again, and all behind it', () => {
    const window = createConnected(3)
    sendAll(window)
    window.receipt(1)
    window.refused(2, 'log_seq_ahead', none)
    window.refused(3, 'device_seq_gap', { expected: 2, retryAtMs: 0 })
    const repair = { type: 'seal_again', deviceSeq: 2, code: 'log_seq_ahead' }
    expect(window.next(0, MANY)).toEqual({ type: 'repair', repair })
  })

  test('P3: unavailable means later, for everything that has no answer; late receipts still count', () => {
    const window = createConnected(3)
    sendAll(window)
    window.unavailable(5000)
    window.receipt(1)
    expect(window.next(4999, MANY)).toEqual({ type: 'wait', untilMs: 5000 })
    expect(window.next(5000, MANY)).toEqual({ type: 'send', deviceSeqs: [2, 3] })
  })

  test('RET-8: what pushes out too much is sent again when the server says', () => {
    const window = createConnected(1)
    sendAll(window)
    window.refused(1, 'displacement_limit', { expected: undefined, retryAtMs: 5000 })
    expect(window.next(4999, MANY)).toEqual({ type: 'wait', untilMs: 5000 })
    expect(window.next(5000, MANY)).toEqual({ type: 'send', deviceSeqs: [1] })
  })

  test('DEV-13: a suspended device sends and repairs nothing until the next session', () => {
    const window = createConnected(3)
    sendAll(window)
    window.refused(1, 'device_suspended', none)
    window.refused(2, 'device_suspended', none)
    window.refused(3, 'event_refused', none)
    expect(window.next(0, MANY)).toEqual({ type: 'idle' })
    expect([window.inFlight, window.count]).toEqual([0, 3])
    window.connected(LIMITS)
    expect(window.next(0, MANY)).toEqual({ type: 'send', deviceSeqs: [1, 2, 3] })
  })

  test('LIM-3: what came too fast is sent again in order when all answers are in and the time has come', () => {
    const window = createConnected(6)
    sendAll(window)
    window.refused(3, 'rate_limited', { expected: undefined, retryAtMs: 200 })
    window.receipt(1)
    window.refused(4, 'rate_limited', { expected: undefined, retryAtMs: 300 })
    window.refused(5, 'rate_limited', { expected: undefined, retryAtMs: 250 })
    expect(window.next(299, MANY)).toEqual({ type: 'wait', untilMs: 300 })
    expect(window.next(300, MANY)).toEqual({ type: 'idle' })
    window.receipt(2)
    window.refused(6, 'device_seq_gap', { expected: 3, retryAtMs: 0 })
    expect(sendAllAt(window, 300)).toEqual([3, 4, 5, 6])
  })

  test('LIM-28: what the server has no storage for is kept, and one event asks until it has a receipt', () => {
    const window = createConnected(6)
    sendAll(window)
    window.receipt(1)
    for (const deviceSeq of [2, 3, 4, 5, 6]) {
      window.refused(deviceSeq, 'storage_low', { expected: undefined, retryAtMs: 200 })
    }
    expect(window.next(199, MANY)).toEqual({ type: 'wait', untilMs: 200 })
    expect(window.next(200, MANY)).toEqual({ type: 'send', deviceSeqs: [2] })
    expect(window.next(200, MANY)).toEqual({ type: 'idle' })
    window.refused(2, 'storage_low', { expected: undefined, retryAtMs: 400 })
    expect(sendAllAt(window, 400)).toEqual([2])
    window.receipt(2)
    expect(sendAllAt(window, 400)).toEqual([3, 4, 5, 6])
  })

  test('an answer to an earlier sending changes nothing', () => {
    const window = createConnected(2)
    window.refused(1, 'event_refused', none)
    window.refused(9, 'event_refused', none)
    expect(sendAll(window)).toEqual([1, 2])
  })
})

test('P4: whatever order the answers come in, every event is stored once and in order', () => {
  const answers = fc.array(fc.nat({ max: 3 }), { minLength: 1, maxLength: 300 })
  fc.assert(
    fc.property(answers, fc.integer({ min: 1, max: 10 }), (choices, count) => {
      const window = createConnected(count)
      let stored = 0
      let nowMs = 0
      const inbox: number[] = []
      const answerOne = (choice: number): void => {
        const deviceSeq = inbox.shift()
        if (deviceSeq === undefined) return
        if (choice === 0) window.unavailable(nowMs + 10)
        else if (choice === 3) {
          window.refused(deviceSeq, 'rate_limited', { expected: undefined, retryAtMs: nowMs + 700 })
        } else if (deviceSeq <= stored) window.receipt(deviceSeq)
        else if (deviceSeq === stored + 1 && choice !== 1) {
          stored += 1
          window.receipt(deviceSeq)
        } else window.refused(deviceSeq, 'device_seq_gap', { expected: stored + 1, retryAtMs: 0 })
      }
      // After the fuzz the server is well behaved, and everything must arrive.
      for (const choice of [...choices, ...Array.from({ length: 200 }, () => 2)]) {
        const step = window.next(nowMs, MANY)
        if (step.type === 'send') inbox.push(...step.deviceSeqs)
        nowMs += 500
        answerOne(choice)
      }
      expect([stored, window.count]).toEqual([count, 0])
    }),
    { numRuns: 200 },
  )
})
