// Every rule of PROTOCOL C, by entries that break just that rule. Each case is made twice by the same lines: broken,
// which must be refused with the rule's code, and mended, which must be accepted.

import { applyEntry, DEVICE_LOG_RULES } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { beforeAll, describe, expect, test } from 'vitest'
import { deviceCases } from './device-log-rules/device-cases.ts'
import { entryCases } from './device-log-rules/entry-cases.ts'
import { epochCases } from './device-log-rules/epoch-cases.ts'
import { pendingCases } from './device-log-rules/pending-cases.ts'
import { createTestLog, type TestLog } from './support/test-log.ts'

const cases = [...entryCases, ...deviceCases, ...epochCases, ...pendingCases]

describe('the rules of the device log', () => {
  let log: TestLog
  beforeAll(async () => {
    log = await createTestLog()
  })

  test('DEV-1: every rule has a case', () => {
    expect(new Set(cases.map(({ rule }) => rule))).toEqual(new Set(Object.keys(DEVICE_LOG_RULES)))
  })

  for (const { rule, title, offer } of cases) {
    test(`DEV-1: refuses with ${rule}: ${title}`, async () => {
      const broken = await offer(log, true)
      expect(applyEntry(crypto, broken.state, broken.entry)).toEqual({ ok: false, rule })
      const mended = await offer(log, false)
      expect(applyEntry(crypto, mended.state, mended.entry)).toMatchObject({ ok: true })
    })
  }
})
