// A bus that can be made deaf: what other nodes say is lost on the way to this one, of every kind.

import type { Bus } from '../../src/bus/bus.ts'

export function createDeafBus() {
  let isDeaf = false
  return {
    /** For `AppOverrides.bus`. */
    wrap: (built: Bus): Bus => ({
      ...built,
      get isHealthy() {
        return built.isHealthy
      },
      subscribe: (userId, handler, context) =>
        built.subscribe(
          userId,
          (announcement) => {
            if (!isDeaf) handler(announcement)
          },
          context,
        ),
    }),
    setDeaf: (next: boolean) => {
      isDeaf = next
    },
  }
}
