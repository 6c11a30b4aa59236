// Traces as a collector gets them: one from a publish message over its commit and announcement to its delivery on another
// node, with counts and times and nothing else in it.

import { toHex } from '@valise/protocol'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { follow, haveEvents, haveReceipts, wiresOf } from './event-ordering/publishing.ts'
import { createAccount } from './support/account.ts'
import { createCapturedParts, waitFor } from './support/open-database.ts'
import { type OtlpReceiver, type ReceivedSpan, startOtlpReceiver } from './support/otlp-receiver.ts'
import { startTestServer, type TestServer, testRedisUrl } from './support/server.ts'

describe('traces over two nodes', () => {
  let collector: OtlpReceiver
  let first: TestServer
  let second: TestServer
  beforeAll(async () => {
    collector = await startOtlpReceiver()
    const redisUrl = testRedisUrl()
    const flags = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint }
    first = await startTestServer({ database: 'postgres', redisUrl, flags })
    const { databaseUrl = '', identityFile } = first
    second = await startTestServer({ database: 'postgres', databaseUrl, identityFile, redisUrl, flags })
  })
  afterAll(async () => {
    await second?.close()
    await first?.close()
    await collector?.close()
  })

  const named = (name: string): ReceivedSpan[] => collector.spans.filter((span) => span.name === name)
  const factsOf = (span: ReceivedSpan): Record<string, unknown> =>
    Object.fromEntries(span.attributes.map(({ key, value }) => [key, Number(Object.values(value)[0])]))

  test('OPS-1: one trace leads from a publish to its commit, its announcement and its delivery on both nodes', async () => {
    const account = await createAccount(first, { devices: 3 })
    const [writer, neighbour, distant] = account.devices
    const writing = await follow(first, writer!)
    const reading = [await follow(first, neighbour!), await follow(second, distant!)]
    const publishTraced = async (): Promise<ReceivedSpan[]> => {
      const known = new Set(named('event.publish').map(({ traceId }) => traceId))
      const fresh = () => named('event.publish').find(({ traceId }) => !known.has(traceId))?.traceId
      writing.publish(wiresOf(await writer!.sealMany('notes', 3)))
      await haveReceipts(writing, writer!.sealed.length)
      await Promise.all(reading.map((session) => haveEvents(session, writer!.sealed.length)))
      const ofFresh = (name: string) => named(name).filter(({ traceId }) => traceId === fresh()).length
      const counts = async () => [ofFresh('event.deliver'), ofFresh('bus.announce')]
      await waitFor('the spans of both nodes', counts, ([delivered, announced]) => delivered === 2 && announced === 1)
      return collector.spans.filter(({ traceId }) => traceId === fresh())
    }
    // A node that has just compared its heads with the log may have read the events there before word of them came.
    const isHandedOver = (span: ReceivedSpan) =>
      span.name !== 'event.deliver' || factsOf(span)['valise.connections'] === 1
    let inTrace = await publishTraced()
    for (let tries = 1; tries < 5 && !inTrace.every(isHandedOver); tries++) inTrace = await publishTraced()

    const publish = inTrace.find(({ name }) => name === 'event.publish')
    const childrenOf = (parent: ReceivedSpan, name: string): ReceivedSpan[] =>
      inTrace.filter((span) => span.parentSpanId === parent.spanId && span.name === name)
    expect(publish!.parentSpanId ?? '').toBe('')
    expect(factsOf(publish!)).toEqual({ 'valise.events': 3, 'valise.stored': 3 })
    const [commit] = childrenOf(publish!, 'log.commit')
    expect(factsOf(commit!)).toEqual({ 'valise.batch_events': 3 })
    const [announce] = childrenOf(commit!, 'bus.announce')
    const [here] = childrenOf(commit!, 'event.deliver')
    const [there] = childrenOf(announce!, 'event.deliver')
    // The writer itself is a connection too, which is handed nothing.
    expect(factsOf(here!)).toMatchObject({ 'valise.events': 3, 'valise.connections': 1 })
    expect(factsOf(there!)).toMatchObject({ 'valise.events': 3, 'valise.connections': 1 })
    for (const span of inTrace)
      expect(BigInt(span.endTimeUnixNano)).toBeGreaterThanOrEqual(BigInt(span.startTimeUnixNano))

    const text = collector.bodies.join('\n')
    const { userId, deviceId } = writer!
    for (const id of [userId, deviceId, account.streamId('notes'), writer!.sealed[0]!.eventId]) {
      expect(text).not.toContain(toHex(id))
      expect(text).not.toContain(Buffer.from(id).toString('base64url'))
    }
    for (const session of [writing, ...reading]) session.drop()
  })
})

describe('a collector that is away', () => {
  let collector: OtlpReceiver
  let server: TestServer
  const captured = createCapturedParts()
  beforeEach(async () => {
    collector = await startOtlpReceiver()
    collector.answerWith(400)
    const flags = { OTEL_EXPORTER_OTLP_ENDPOINT: `${collector.endpoint}/` }
    server = await startTestServer({ database: 'postgres', flags, log: captured.parts.log })
  })
  afterEach(async () => {
    await server?.close()
    await collector?.close()
  })

  test('OPS-1: costs a warning that says so, and no event', async () => {
    const account = await createAccount(server, { devices: 2 })
    const [writer, reader] = account.devices
    const writing = await follow(server, writer!)
    const reading = await follow(server, reader!)
    await writer!.sealMany('notes', 5)
    writing.publish(wiresOf(writer!.sealed))
    await haveReceipts(writing, 5)
    await haveEvents(reading, 5)
    const warnings = async () => captured.logged.filter((line) => line.includes('telemetry.traces.lose'))
    await waitFor('the warning', warnings, ({ length }) => length > 0)
    expect(collector.spans).toEqual([])
    for (const session of [writing, reading]) session.drop()
  })
})
