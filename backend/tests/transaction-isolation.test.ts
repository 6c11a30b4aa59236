// What docs/TRANSACTION_ISOLATION.md claims, one test a claim, on a real PostgreSQL with transactions stepped by hand;
// and beside each the same steps with the lock or constraint taken away, where the anomaly really happens.

import { describeAccounts } from './transaction-isolation/accounts.ts'
import { describeFailures } from './transaction-isolation/failures.ts'
import { describeOtherPaths } from './transaction-isolation/other-paths.ts'
import { describeStorage } from './transaction-isolation/storage.ts'

describeStorage()
describeAccounts()
describeOtherPaths()
describeFailures()
