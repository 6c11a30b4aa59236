// When session keys must change: the pure rule and the counter.

import { describe, expect, it } from 'vitest'
import {
  createRotationCounter,
  expiryNoticeAgeMs,
  rotationReason,
  shouldRotateKeys,
  softEventLimit,
} from '../src/gateway/session-rotation.ts'

const HOUR_MS = 3_600_000
const limits = { maxAgeMs: 24 * HOUR_MS, maxEvents: 1000 }
const establishedAtMs = Date.UTC(2030, 0, 1)

describe('SES-2: session keys rotate after an age or a number of events, whichever is first', () => {
  it.each([
    ['fresh', 0, 0, undefined],
    ['one millisecond short of 24 h', 24 * HOUR_MS - 1, 999, undefined],
    ['24 h', 24 * HOUR_MS, 0, 'age'],
    ['999 events', 0, 999, undefined],
    ['1000 events', 0, 1000, 'events'],
    ['1001 events', 0, 1001, 'events'],
    ['both at once', 24 * HOUR_MS, 1000, 'age'],
  ])('SES-2: %s', (_name, ageMs, eventCount, reason) => {
    const state = { establishedAtMs, eventCount }
    expect(rotationReason(state, limits, establishedAtMs + ageMs)).toBe(reason)
    expect(shouldRotateKeys(state, limits, establishedAtMs + ageMs)).toBe(reason !== undefined)
  })

  it('SES-2: events of both directions count, and the hint comes once, at 80 %', () => {
    const counter = createRotationCounter(limits)
    counter.countPublished(400)
    counter.countDelivered(399)
    expect(counter.takeHint()).toBe(false)
    counter.countDelivered(1)
    expect(counter.eventCount()).toBe(softEventLimit(limits))
    expect(counter.takeHint()).toBe(true)
    expect(counter.takeHint()).toBe(false)
    expect(counter.remaining()).toBe(200)
  })

  it('SES-2: a rekey counts each direction anew when its keys change, and hints again', () => {
    const counter = createRotationCounter(limits)
    counter.countPublished(500)
    counter.countDelivered(500)
    expect(counter.remaining()).toBe(0)
    expect(counter.takeHint()).toBe(true)
    counter.restartDelivered()
    expect(counter.eventCount()).toBe(500)
    counter.restartPublished()
    expect(counter.eventCount()).toBe(0)
    counter.countDelivered(800)
    expect(counter.takeHint()).toBe(true)
  })

  it('SES-2: deliveries never make a publisher exceed the limit of his own', () => {
    const counter = createRotationCounter(limits)
    counter.countDelivered(1000)
    counter.countPublished(1000)
    expect(counter.isOverPublished()).toBe(false)
    counter.countPublished(1)
    expect(counter.isOverPublished()).toBe(true)
    expect(counter.remaining()).toBe(0)
  })

  it('SES-2: from 20 h of 24 on the end of the session is told, once', () => {
    const counter = createRotationCounter(limits)
    const establishedAtMs = 1_000
    const noticeAtMs = establishedAtMs + expiryNoticeAgeMs(limits)
    expect(counter.takeExpiryNotice(establishedAtMs, noticeAtMs - 1)).toBeUndefined()
    expect(counter.takeExpiryNotice(establishedAtMs, noticeAtMs)).toBe(establishedAtMs + limits.maxAgeMs)
    expect(counter.takeExpiryNotice(establishedAtMs, noticeAtMs + 1)).toBeUndefined()
  })
})
