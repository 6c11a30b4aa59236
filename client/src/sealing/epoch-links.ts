// Which older epochs a new epoch links to (PROTOCOL D): the newest that its maker can open, and each older one that no
// link leads to from there. A link counts only where it is what its two secrets make: a false one leads nowhere.

import {
  boxHash,
  type Crypto,
  type DeviceLogState,
  type EpochState,
  equalBytes,
  findEpoch,
  MAX_EPOCH_LINKS,
} from '@valise/protocol'
import { sealLink } from './epoch.ts'
import type { OlderSecret } from './epoch-boxes.ts'

type SecretOf = (n: number) => Uint8Array | undefined

/** The links of an epoch, with whether each is the one its secrets make; unknown without both secrets. */
export function checkLinks(
  crypto: Crypto,
  { userId }: Pick<DeviceLogState, 'userId'>,
  { n, links }: Pick<EpochState, 'n' | 'links'>,
  secretOf: SecretOf,
): { readonly n: number; readonly isTrue: boolean | undefined }[] {
  const secret = secretOf(n)
  return links.map((link) => {
    const older = secretOf(link.n)
    if (secret === undefined || older === undefined) return { n: link.n, isTrue: undefined }
    const box = sealLink(crypto, { userId, n, prevN: link.n }, secret, older)
    return { n: link.n, isTrue: equalBytes(boxHash(crypto, box), link.boxHash) }
  })
}

/** Newest first, at most as many as EPOCH holds; what does not fit is linked by the epoch after. */
export function chooseLinks(crypto: Crypto, log: DeviceLogState, secretOf: SecretOf): OlderSecret[] {
  const chosen: OlderSecret[] = []
  const reached = new Set<number>()
  for (let n = log.epoch.n; n >= 1 && chosen.length < MAX_EPOCH_LINKS; n--) {
    const secret = secretOf(n)
    if (secret === undefined) continue
    if (!reached.has(n)) chosen.push({ n, secret })
    const epoch = findEpoch(log, n)
    if (epoch === undefined) continue
    // Reached itself or chosen: whatever it truly links to is reached too.
    for (const link of checkLinks(crypto, log, epoch, secretOf)) if (link.isTrue === true) reached.add(link.n)
  }
  return chosen
}
