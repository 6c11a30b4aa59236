// The handshake's model, checked by Maude within the tests: see docs/verification/README.md.
import { expect, it } from 'vitest'
import { checkModel } from '../docs/verification/check.mjs'

const deadlineMs = 300_000 // Maude itself has a minute; the rest is for installing it the first time

it('SES-1: the model of the handshake knows no attack, and knows those on the weaker ones', {
  timeout: deadlineMs,
}, () => {
  const results = checkModel()
  expect(results.filter(({ isProven }) => !isProven)).toEqual([])
  const claims = results.map(({ claim }) => claim)
  expect(claims).toContain('full: no attack, c calls s and m, s twice')
  for (const variant of ['orig', 'noeph', 'nosid', 'noenc']) {
    expect(claims.filter((claim) => claim.startsWith(`${variant}: `) && claim.includes(' is found'))).not.toEqual([])
  }
})
