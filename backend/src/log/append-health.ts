// Whether this node can store events: what its latest appends say, and when nobody publishes, an append that is tried and
// rolled back. A database that answers reads and refuses writes must not pass for a healthy one.

export interface AppendHealthParts {
  /** Resolves when an append would work now, and leaves nothing behind. */
  tryAppend(): Promise<void>
  /** Once a change: appends fail, or work again. */
  onChange(change: { readonly isFailing: boolean; readonly error?: unknown }): void
  /** Milliseconds of a clock that never goes back. */
  now(): number
}

export interface AppendHealth {
  /** The same append, watched. An outcome that says something about the data alone is no failure: `isRefusedData`. */
  watch<Args extends unknown[], T>(
    append: (...args: Args) => Promise<T>,
    isRefusedData: (error: unknown) => boolean,
  ): (...args: Args) => Promise<T>
  /** Whether appends work, at most `FRESH_MS` old. */
  works(): Promise<boolean>
}

/** An append this recent need not be tried again; a try is made no more often. */
const FRESH_MS = 2000

export function createAppendHealth({ tryAppend, onChange, now }: AppendHealthParts): AppendHealth {
  let isFailing = false
  let knownAtMs = Number.NEGATIVE_INFINITY
  let underWay: Promise<boolean> | undefined

  const note = (outcome: { readonly isFailing: boolean; readonly error?: unknown }): void => {
    knownAtMs = now()
    if (outcome.isFailing === isFailing) return
    isFailing = outcome.isFailing
    onChange(outcome)
  }

  const attempt = async (): Promise<boolean> => {
    try {
      await tryAppend()
      note({ isFailing: false })
    } catch (error) {
      note({ isFailing: true, error })
    }
    return !isFailing
  }

  return {
    watch:
      (append, isRefusedData) =>
      async (...args) => {
        try {
          const result = await append(...args)
          note({ isFailing: false })
          return result
        } catch (error) {
          if (!isRefusedData(error)) note({ isFailing: true, error })
          throw error
        }
      },
    works: async () => {
      if (now() - knownAtMs < FRESH_MS) return !isFailing
      underWay ??= attempt().finally(() => {
        underWay = undefined
      })
      return underWay
    },
  }
}
