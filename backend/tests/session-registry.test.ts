// Every order in which the sessions of one device can begin, end and be heard of leaves the newest alone (SES-3).

import { toDeviceId, toUserId } from '@valise/protocol'
import { describe, expect, it } from 'vitest'
import { createSession } from '../src/gateway/session.ts'
import { createSessionRegistry, type SessionOpening, type SessionRegistry } from '../src/gateway/session-registry.ts'

const session = createSession({
  sessionId: new Uint8Array(16),
  userId: toUserId(new Uint8Array(32).fill(1))!,
  deviceId: toDeviceId(new Uint8Array(16).fill(2))!,
  publicKey: new Uint8Array(32),
  canRekey: true,
  establishedAtMs: 0,
})

/** A session of the device on one node; its end follows only when the test says so. */
class Attempt {
  readonly #opening: SessionOpening
  readonly number: number
  isUp = false
  constructor(registry: SessionRegistry, number: number) {
    this.#opening = registry.open(session)
    this.number = number
  }
  begin(): void {
    this.isUp = this.#opening.begin(this.number, () => {
      this.isUp = false
    })
  }
  end(): void {
    this.isUp = false
    this.#opening.end()
  }
}

function* ordersOf<Item>(items: readonly Item[]): Generator<readonly Item[]> {
  if (items.length === 0) yield []
  for (const [i, item] of items.entries()) {
    for (const rest of ordersOf([...items.slice(0, i), ...items.slice(i + 1)])) yield [item, ...rest]
  }
}

describe('the sessions of a device', () => {
  it('SES-3: on one node the newest stays, in every order of three beginnings', () => {
    for (const order of ordersOf([0, 1, 2])) {
      const registry = createSessionRegistry()
      const attempts = [1, 2, 3].map((number) => new Attempt(registry, number))
      for (const i of order) attempts[i]!.begin()
      expect(attempts.map(({ isUp }) => isUp)).toEqual([false, false, true])
      for (const i of order) if (i !== 2) attempts[i]!.end()
      expect(registry.sessions()).toMatchObject([{ number: 3 }])
      attempts[2]!.end()
      expect(registry.count).toBe(0)
      expect(registry.sessions()).toEqual([])
    }
  })

  it('SES-3: on two nodes the newer stays, in every order of beginnings and announcements', () => {
    for (const order of ordersOf(['older begins', 'newer begins', 'older is heard', 'newer is heard'])) {
      const [here, there] = [createSessionRegistry(), createSessionRegistry()]
      const older = new Attempt(here, 1)
      const newer = new Attempt(there, 2)
      const steps: Record<string, () => void> = {
        'older begins': () => older.begin(),
        'newer begins': () => newer.begin(),
        'older is heard': () => there.supersedeOlder(session.deviceKey, 1),
        'newer is heard': () => here.supersedeOlder(session.deviceKey, 2),
      }
      for (const step of order) steps[step]!()
      expect([order, older.isUp, newer.isUp]).toEqual([order, false, true])
    }
  })

  it('SES-3: word of its own number, before or after it begins, ends no session', () => {
    const registry = createSessionRegistry()
    const attempt = new Attempt(registry, 2)
    registry.supersedeOlder(session.deviceKey, 2)
    attempt.begin()
    expect(attempt.isUp).toBe(true)
    registry.supersedeOlder(session.deviceKey, 2)
    expect(attempt.isUp).toBe(true)
  })

  it('SES-3: nothing is kept of a device whose sessions have ended: a database put back numbers them anew', () => {
    const registry = createSessionRegistry()
    const before = new Attempt(registry, 7)
    before.begin()
    before.end()
    const after = new Attempt(registry, 3)
    after.begin()
    expect(after.isUp).toBe(true)
  })

  it('SES-3: the end of an older session, early or late, never touches the newer', () => {
    const registry = createSessionRegistry()
    const [older, newer] = [new Attempt(registry, 1), new Attempt(registry, 2)]
    older.begin()
    newer.begin()
    older.end()
    older.end()
    expect(newer.isUp).toBe(true)
    expect(registry.sessions()).toMatchObject([{ number: 2 }])
  })
})
