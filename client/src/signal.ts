// Waiting for a condition that others bring about: listeners and abortable waits.

export interface Listeners<Value> {
  /** Returns the function that removes the listener. */
  add(listener: (value: Value) => void): () => void
  emit(value: Value): void
}

/** A listener that throws hurts neither the emitter nor the other listeners; `onFailure` hears of it. */
export function createListeners<Value>(onFailure: (error: unknown) => void): Listeners<Value> {
  const listeners = new Set<(value: Value) => void>()
  return {
    add: (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    emit: (value) => {
      for (const listener of [...listeners]) {
        try {
          listener(value)
        } catch (error) {
          onFailure(error)
        }
      }
    },
  }
}

/** Lets any number of waiters wait for the next pulse. */
export interface Pulse {
  /** Resolves at the next `fire`, or rejects with the signal's reason. */
  next(signal?: AbortSignal): Promise<void>
  fire(): void
  /** How often it fired: whoever saw the same count has missed nothing. */
  readonly count: number
}

export function createPulse(): Pulse {
  const waiters = new Set<() => void>()
  let count = 0
  return {
    next: (signal) =>
      new Promise((resolve, reject) => {
        if (signal?.aborted === true) {
          reject(signal.reason)
          return
        }
        const onAbort = (): void => {
          waiters.delete(wake)
          reject(signal?.reason)
        }
        const wake = (): void => {
          signal?.removeEventListener('abort', onAbort)
          resolve()
        }
        waiters.add(wake)
        signal?.addEventListener('abort', onAbort, { once: true })
      }),
    get count() {
      return count
    },
    fire: () => {
      count += 1
      const woken = [...waiters]
      waiters.clear()
      for (const wake of woken) wake()
    },
  }
}
