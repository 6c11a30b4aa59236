// Subscribers never leak: devices come and go in any order while Redis fails in every way it can. At rest a node's own
// account is that of Redis, at the end nothing is left, and no device that stayed has missed an event.

import { describe } from 'vitest'
import { describeHubChurn } from './subscriber-leaks/hub-churn.ts'
import { describeMemory } from './subscriber-leaks/memory.ts'
import { describeServers } from './subscriber-leaks/servers.ts'

describe('subscribers', () => {
  describeHubChurn()
  describeServers()
  describeMemory()
})
