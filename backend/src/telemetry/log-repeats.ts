// A flood of one event in the log is summed up: so many lines of it within a window are written, the rest are counted.
// Pure; bounded by the number of event names, and by `MAX_EVENTS` should that ever not be few.

export interface RepeatRules {
  /** Lines of one event that are written in a window. */
  readonly maxLines: number
  readonly windowMs: number
}

export const DEFAULT_REPEATS: RepeatRules = { maxLines: 20, windowMs: 10_000 }

export interface Suppressed<Level> {
  readonly event: string
  /** Of the last line that was not written. */
  readonly level: Level
  readonly count: number
}

export interface RepeatLimiter<Level> {
  /** True when the line may be written; otherwise it is counted. */
  admit(event: string, level: Level): boolean
  /** What was held back in windows that are over, or in all of them; it is forgotten here. */
  take(which: 'ended' | 'all'): Suppressed<Level>[]
  /** True while something is held back and not taken. */
  readonly isHolding: boolean
}

const MAX_EVENTS = 1000

interface Window<Level> {
  readonly beganAtMs: number
  lines: number
  suppressed: number
  level: Level
}

/** `now` is of any steady clock. */
export function createRepeatLimiter<Level>(rules: RepeatRules, now: () => number): RepeatLimiter<Level> {
  const windowByEvent = new Map<string, Window<Level>>()
  const hasEnded = ({ beganAtMs }: Window<Level>): boolean => now() - beganAtMs >= rules.windowMs

  return {
    admit: (event, level) => {
      const running = windowByEvent.get(event)
      // A window that is over, and has something to tell, stays until it is taken.
      if (running === undefined || (hasEnded(running) && running.suppressed === 0)) {
        if (running === undefined && windowByEvent.size >= MAX_EVENTS) return false
        windowByEvent.set(event, { beganAtMs: now(), lines: 1, suppressed: 0, level })
        return true
      }
      if (running.lines < rules.maxLines) {
        running.lines += 1
        return true
      }
      running.suppressed += 1
      running.level = level
      return false
    },
    take: (which) => {
      const taken: Suppressed<Level>[] = []
      for (const [event, window] of windowByEvent) {
        if (which === 'ended' && !hasEnded(window)) continue
        windowByEvent.delete(event)
        if (window.suppressed > 0) taken.push({ event, level: window.level, count: window.suppressed })
      }
      return taken
    },
    get isHolding() {
      return [...windowByEvent.values()].some(({ suppressed }) => suppressed > 0)
    },
  }
}
