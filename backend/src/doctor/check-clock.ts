// Another machine's clock beside this one's. Receipts, lifetimes and handshakes carry times of both.

import type { Finding, Findings } from './finding.ts'

const NOTED_SKEW_MS = 2000
const WRONG_SKEW_MS = 60_000

export interface ClockReading {
  /** What the other clock said, Unix milliseconds. */
  readonly theirsMs: number
  /** Ours before we asked and after the answer. */
  readonly beforeMs: number
  readonly afterMs: number
  /** As coarse as its answer is. */
  readonly resolutionMs?: number
}

/** By how much the other clock is ahead at least; negative: behind; 0 when the two may be the same. */
export function skewOf({ theirsMs, beforeMs, afterMs, resolutionMs = 1 }: ClockReading): number {
  if (theirsMs > afterMs) return theirsMs - afterMs
  if (theirsMs + resolutionMs < beforeMs) return theirsMs + resolutionMs - beforeMs
  return 0
}

export function checkClock(findings: Findings, whose: string, reading: ClockReading): Finding {
  const skewMs = skewOf(reading)
  const seconds = (Math.abs(skewMs) / 1000).toFixed(1)
  const text = `the clock of ${whose} is ${seconds} s ${skewMs > 0 ? 'ahead of' : 'behind'} this machine's`
  const remedy = 'let both machines set their clocks by NTP (chrony, systemd-timesyncd)'
  if (Math.abs(skewMs) >= WRONG_SKEW_MS) return findings.wrong(text, remedy)
  if (Math.abs(skewMs) >= NOTED_SKEW_MS) return findings.note(text, remedy)
  return findings.ok(`the clock of ${whose} and this machine's agree`)
}
