// Runs cut before an event that must not be stored: what comes before it is appended, the event has its answer, and what
// follows it is a gap. The runs beside it are not touched (ORD-6).

import type { AppendRun, AppendVerdict } from '../db/queries/events.ts'

export interface Cut {
  /** The index in its run of the first event that is refused. */
  readonly at: number
  readonly status: 'log_seq_ahead' | 'log_head_false' | 'checkpoint_false'
}

export async function appendCut(
  appendRuns: (runs: readonly AppendRun[]) => Promise<AppendVerdict[]>,
  runs: readonly AppendRun[],
  cuts: ReadonlyMap<AppendRun, Cut>,
): Promise<AppendVerdict[]> {
  if (cuts.size === 0) return appendRuns(runs)
  const kept = runs.map((run) => ({ ...run, events: run.events.slice(0, cuts.get(run)?.at) }))
  const verdicts = await appendRuns(kept.filter(({ events }) => events.length > 0))
  let at = 0
  return runs.flatMap((run, r) => {
    const end = at + (kept[r]?.events.length ?? 0)
    const answered = verdicts.slice(at, end)
    at = end
    const cut = cuts.get(run)
    return cut === undefined ? answered : [...answered, ...refuseFrom(run, cut)]
  })
}

function refuseFrom(run: AppendRun, { at, status }: Cut): AppendVerdict[] {
  const expected = run.firstSeq + at
  return run.events.slice(at).map((_, index) => (index === 0 ? { status } : { status: 'gap', expected }))
}
