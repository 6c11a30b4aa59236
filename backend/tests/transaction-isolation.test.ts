// What docs/TRANSACTION_ISOLATION.md claims, one test a claim, on a real PostgreSQL with transactions stepped by hand;
// and beside each the same steps with the lock or constraint taken away, where the anomaly really happens.

import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { describeAccounts } from './transaction-isolation/accounts.ts'
import { describeAudit } from './transaction-isolation/audit.ts'
import { describeDisplacement } from './transaction-isolation/displacement.ts'
import { describeFailures } from './transaction-isolation/failures.ts'
import { describeOtherPaths } from './transaction-isolation/other-paths.ts'
import { describePairing } from './transaction-isolation/pairing.ts'
import { describePairingLimits } from './transaction-isolation/pairing-limits.ts'
import { describeRetention } from './transaction-isolation/retention.ts'
import { describeRevocation } from './transaction-isolation/revocation.ts'
import { describeStorage } from './transaction-isolation/storage.ts'
import { describeSweeps } from './transaction-isolation/sweeps.ts'

describeStorage()
describeAccounts()
describeRevocation()
describeOtherPaths()
describeRetention()
describeDisplacement()
describePairing()
describePairingLimits()
describeSweeps()
describeAudit()
describeFailures()

describe('the document and its tests', () => {
  const root = join(import.meta.dirname, '../..')
  const read = (path: string): string => readFileSync(join(root, path), 'utf8')
  const document = read('backend/docs/TRANSACTION_ISOLATION.md')
  const [review = '', table = ''] = document.split('\n## The tests\n')
  const folder = 'backend/tests/transaction-isolation'
  const titles = readdirSync(join(root, folder)).flatMap((file) =>
    [...read(join(folder, file)).matchAll(/\btest\('(ISO-\d+[^']*)'/g)].map(([, title = '']) => ({ file, title })),
  )
  const rowOf = (claim: string): string => table.split('\n').find((row) => row.startsWith(`| [${claim}]`)) ?? ''
  const claimsOf = (text: string): string[] => [...new Set([...text.matchAll(/\bISO-\d+\b/g)].map(([id]) => id))].sort()

  test('P2: every test stands in the document under its claim, with its file', () => {
    const missing = titles.filter(({ file, title }) => {
      const row = rowOf(claimsOf(title)[0] ?? '')
      return !row.includes(title) || !row.includes(`(../tests/transaction-isolation/${file})`)
    })
    expect(missing).toEqual([])
    expect(titles.length).toBeGreaterThan(50)
  })

  test('P2: every title in the document is that of a test, and every claim is reviewed, tested and known to the protocol', () => {
    const written = [...table.matchAll(/(?<=\| |<br>)ISO-\d+[,:].*?(?=<br>| \|)/g)].map(([title]) => title)
    expect(written.sort()).toEqual(titles.map(({ title }) => title).sort())
    const claims = [...new Set([...review.matchAll(/\*\*(ISO-\d+)\*\*/g)].map(([, id = '']) => id))].sort()
    expect(claims).toEqual(claimsOf(table))
    expect(claimsOf(review)).toEqual(claims)
    expect(claims).toEqual(claims.map((_, i) => `ISO-${i + 1}`).sort())
    expect(read('docs/PROTOCOL.md')).toContain(`the claims ISO-1 to ISO-${claims.length} of`)
  })
})
